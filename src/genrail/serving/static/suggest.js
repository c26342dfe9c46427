// Suggestions while somebody types: arrows choose, Enter takes, Escape closes.
import { ask } from "./state.js";
import { make, show } from "./parts.js";

const MOST = 6, WAIT = 40; // milliseconds after a key

export function suggest(query, list, askFor) {
  let asking = new AbortController(), waiting = 0, at = -1;

  function close() {
    clearTimeout(waiting);
    asking.abort();
    at = -1;
    list.hidden = true;
    query.setAttribute("aria-expanded", "false");
    query.removeAttribute("aria-activedescendant");
  }
  function take(text) {
    query.value = text;
    close();
    askFor(text, true);
  }
  function mark(place) {
    const options = [...list.children];
    at = (place + options.length) % options.length;
    options.forEach((option, number) => option.setAttribute("aria-selected", String(number === at)));
    query.setAttribute("aria-activedescendant", options[at].id);
  }
  async function refresh() {
    asking.abort();
    asking = new AbortController();
    const typed = query.value;
    if (!typed.trim()) return close();
    let found;
    try {
      found = (await ask("/v1/suggest", { typed, k: MOST }, { signal: asking.signal })).suggestions;
    } catch {
      return close(); // suggestions are a help: the answers below say what is wrong
    }
    if (query.value !== typed || document.activeElement !== query) return;
    const texts = found.map((each) => each.text).filter((text) => text !== typed);
    show(list, ...texts.map((text, place) => {
      const option = make("li", { role: "option", id: `suggestion-${place}`, "aria-selected": "false", dir: "auto" }, text);
      option.addEventListener("mousedown", (event) => { event.preventDefault(); take(text); });
      return option;
    }));
    at = -1;
    list.hidden = !texts.length;
    query.setAttribute("aria-expanded", String(!list.hidden));
  }
  query.addEventListener("input", () => {
    askFor(query.value);
    clearTimeout(waiting);
    waiting = setTimeout(refresh, WAIT);
  });
  query.addEventListener("blur", close);
  query.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && !list.hidden) { event.preventDefault(); return close(); }
    if (event.key === "Enter") { if (at >= 0) { event.preventDefault(); take(list.children[at].textContent); } else close(); return; }
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step === undefined || list.hidden) return;
    event.preventDefault();
    mark(at < 0 && step < 0 ? list.children.length - 1 : at + step);
  });
}
