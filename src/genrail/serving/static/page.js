// Puts the page together: one question, five views of it.
import { ask, readAddress, state, Trouble, writeAddress } from "./state.js";
import { buildFilters } from "./filters.js";
import { searchView, shoppersView, whyDialog } from "./hits.js";
import { railsView } from "./rails.js";
import { besideView } from "./beside.js";
import { mapView } from "./map.js";
import { count, make, show } from "./parts.js";

const VIEWS = { search: searchView, shoppers: shoppersView, rails: railsView, beside: besideView, map: mapView };
const FIRST = 12, WAIT = 120; // hits; milliseconds after a key before the server is asked
const part = (id) => document.getElementById(id);
const view = part("view"), query = part("query"), tabs = [...part("tabs").children];
let asking = new AbortController(), waiting = 0;

const page = {
  withWords: false,
  prefix: [],
  tell(text) { part("status").textContent = text; },
  more() { state.count += FIRST; refresh(); },
  toggleWords() { page.withWords = !page.withWords; refresh(); },
  open(prefix) { page.prefix = prefix; refresh(); },
  why(hit) { whyDialog(part("why"), hit, { past: state.view === "shoppers", words: state.view !== "shoppers" || page.withWords }); },
  pick(hit) {
    const before = state.picks.findIndex((pick) => pick.id === hit.id);
    if (before >= 0) state.picks.splice(before, 1);
    else state.picks.push({ id: hit.id, title: hit.title });
    showPicks();
    refresh(hit.id);
  },
};

function showPicks() {
  const chips = state.picks.map((pick) => make("li", {}, make("button", { type: "button", title: pick.title, "aria-label": `Remove ${pick.title}`, onclick: () => page.pick(pick) }, `× ${pick.title}`)));
  part("picks").hidden = !chips.length;
  show(part("picks"), make("p", { class: "small" }, `${count(chips.length, "picked item")}, oldest first`), make("ul", { class: "chips" }, ...chips));
}

async function refresh(focusId) {
  asking.abort();
  asking = new AbortController();
  const mine = asking;
  writeAddress();
  part("examples").hidden = state.query !== "";
  view.setAttribute("aria-busy", "true");
  try {
    await VIEWS[state.view](view, page, mine.signal);
    trouble("");
    if (focusId !== undefined) focusHit(focusId);
  } catch (error) {
    if (error.name === "AbortError") return;
    trouble(error instanceof Trouble ? error.message : `The page made a mistake: ${error.message}`);
    if (error.status === 401) part("key").showModal();
    if (!(error instanceof Trouble)) console.error(error);
  } finally {
    if (mine === asking) view.removeAttribute("aria-busy");
  }
}

// The answers are drawn anew; whoever uses the keyboard stays where they were.
function focusHit(id) {
  const hit = [...view.querySelectorAll(".hit")].find((each) => each.dataset.id === id);
  hit?.querySelector("button")?.focus();
}

function trouble(text) {
  part("trouble").hidden = !text;
  part("trouble").textContent = text;
  if (text) page.tell("");
}

function soon() {
  clearTimeout(waiting);
  waiting = setTimeout(refresh, WAIT);
}

function choose(name, focus = false) {
  state.view = name;
  state.count = FIRST;
  for (const tab of tabs) {
    const chosen = tab.id === `tab-${name}`;
    tab.setAttribute("aria-selected", String(chosen));
    tab.tabIndex = chosen ? 0 : -1;
    if (chosen) view.setAttribute("aria-labelledby", tab.id);
    if (chosen && focus) tab.focus();
  }
  show(view);
  refresh();
}

async function learn() {
  try {
    const about = (state.about = await ask("/v1/about"));
    part("engine").textContent = `${about.name || "engine"} · ${count(about.items, "item")} · ${about.lane} · version ${about.index_version}`;
    buildFilters(part("filters"), about.attributes, state.where, (where) => { state.where = where; state.count = FIRST; soon(); });
    show(part("examples"), "Try", ...about.examples.map((title) => make("button", { type: "button", class: "link", dir: "auto", onclick: () => { query.value = title; askFor(title); } }, title)));
  } catch (error) {
    trouble(error.message);
    if (error.status === 401) part("key").showModal();
    return;
  }
  choose(state.view);
}

function askFor(words) {
  state.query = words;
  state.count = FIRST;
  page.prefix = [];
  soon();
}

query.addEventListener("input", () => askFor(query.value));
part("ask").addEventListener("submit", (event) => { event.preventDefault(); askFor(query.value); });
part("filters-toggle").addEventListener("click", (event) => {
  const hidden = part("filters").toggleAttribute("hidden");
  event.currentTarget.setAttribute("aria-expanded", String(!hidden));
});
part("key-form").addEventListener("submit", () => { state.key = part("key-value").value.trim(); part("key-value").value = ""; learn(); });
for (const [place, tab] of tabs.entries()) {
  tab.addEventListener("click", () => choose(tab.id.slice(4)));
  tab.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    const to = { Home: 0, End: tabs.length - 1 }[event.key] ?? (step && (place + step + tabs.length) % tabs.length);
    if (to === undefined) return;
    event.preventDefault();
    choose(tabs[to].id.slice(4), true);
  });
}
readAddress(Object.keys(VIEWS));
query.value = state.query;
showPicks();
if (state.where) { part("filters").hidden = false; part("filters-toggle").setAttribute("aria-expanded", "true"); }
learn();
