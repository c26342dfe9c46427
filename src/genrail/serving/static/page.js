// Puts the page together: one question, five views of it.
import { ask, readAddress, state, Trouble, writeAddress } from "./state.js";
import { showFilters } from "./filters.js";
import { searchView, shoppersView } from "./hits.js";
import { whyDialog } from "./why.js";
import { railsView } from "./rails.js";
import { besideView } from "./beside.js";
import { mapView } from "./map.js";
import { suggest } from "./suggest.js";
import { count, make, show } from "./parts.js";

const VIEWS = { search: searchView, shoppers: shoppersView, rails: railsView, beside: besideView, map: mapView };
const WAIT = 120; // milliseconds after a key before the server is asked
const part = (id) => document.getElementById(id);
const view = part("view"), query = part("query"), tabs = [...part("tabs").children];
let asking = new AbortController(), waiting = 0, pausing = 0;

const page = {
  withWords: false,
  prefix: [],
  names: new Map(), // of branches of the map that were opened
  tell(text) { part("status").textContent = text; },
  trouble,
  togglePlain() { state.plain = !state.plain; refresh({ kept: true }); },
  toggleWords() { page.withWords = !page.withWords; refresh(); },
  open(prefix) { page.prefix = prefix; refresh(); },
  later(milliseconds, task) { clearTimeout(pausing); pausing = setTimeout(task, milliseconds); },
  why(hit) { whyDialog(part("why"), hit, { past: state.view === "shoppers", words: state.view !== "shoppers" || page.withWords }); },
  filters(counted) {
    const chosen = showFilters(part("filters"), state, counted, { changed: () => { page.prefix = []; refresh({ kept: true }); }, typed: soon });
    part("filters-toggle").textContent = chosen ? `Filters (${chosen})` : "Filters";
  },
  clearFilters() { state.filters = {}; state.where = ""; refresh({ kept: true }); },
  pick(hit) {
    const before = state.picks.findIndex((pick) => pick.id === hit.id);
    if (before >= 0) state.picks.splice(before, 1);
    else state.picks.push({ id: hit.id, title: hit.title });
    showPicks();
    refresh({ focus: hit.id, kept: true });
  },
};

function showPicks() {
  const chips = state.picks.map((pick) => make("li", {}, make("button", { type: "button", title: pick.title, "aria-label": `Remove ${pick.title}`, onclick: () => page.pick(pick) }, `× ${pick.title}`)));
  part("picks").hidden = !chips.length;
  show(part("picks"), make("p", { class: "small" }, `${count(chips.length, "picked item")}, oldest first`), make("ul", { class: "chips" }, ...chips));
}

async function refresh({ focus, kept = false } = {}) {
  asking.abort();
  clearTimeout(pausing);
  asking = new AbortController();
  const mine = asking;
  writeAddress(kept);
  part("examples").hidden = state.query !== "";
  const filtered = state.where !== "" || Object.keys(state.filters).length > 0;
  document.body.toggleAttribute("data-empty", !state.query.trim() && !state.picks.length && !filtered && state.view !== "map");
  view.setAttribute("aria-busy", "true");
  try {
    await VIEWS[state.view](view, page, mine.signal);
    trouble(null);
    if (focus !== undefined) focusHit(focus);
  } catch (error) {
    if (error.name !== "AbortError") trouble(error);
  } finally {
    if (mine === asking) view.removeAttribute("aria-busy");
  }
}

// The answers are drawn anew; whoever uses the keyboard stays where they were.
function focusHit(id) {
  const hit = [...view.querySelectorAll(".hit")].find((each) => each.dataset.id === id);
  hit?.querySelector("button")?.focus();
}

// What is shown stays, dimmed: it answers an older question.
function trouble(error) {
  part("trouble").hidden = !error;
  view.classList.toggle("old", Boolean(error));
  if (!error) return;
  const text = error instanceof Trouble ? error.message : `The page made a mistake: ${error.message}`;
  const old = view.children.length ? " What you see below answers an earlier question." : "";
  show(part("trouble"), make("p", {}, text + old), make("button", { type: "button", onclick: () => (state.about ? refresh() : learn()) }, "Try again"));
  page.tell("");
  if (error.status === 401) part("key").showModal();
  if (!(error instanceof Trouble)) console.error(error);
}

function soon() {
  clearTimeout(waiting);
  waiting = setTimeout(refresh, WAIT);
}

function choose(name, { focus = false, kept = true } = {}) {
  state.view = name;
  for (const tab of tabs) {
    const chosen = tab.id === `tab-${name}`;
    tab.setAttribute("aria-selected", String(chosen));
    tab.tabIndex = chosen ? 0 : -1;
    if (chosen) view.setAttribute("aria-labelledby", tab.id);
    if (chosen && focus) tab.focus();
  }
  document.body.dataset.view = name;
  show(view);
  page.filters(new Map());
  refresh({ kept });
}

async function learn() {
  try {
    const about = (state.about = await ask("/v1/about"));
    part("engine").textContent = `${about.name || "engine"} · ${count(about.items, "item")} · ${about.lane} · version ${about.index_version}`;
    part("tab-beside").hidden = !about.beside;
    show(part("examples"), "Try", ...about.examples.map((words) => make("button", { type: "button", class: "link", dir: "auto", onclick: () => { query.value = words; askFor(words, true); query.focus(); } }, words)));
  } catch (error) {
    return trouble(error);
  }
  choose(state.view, { kept: false });
}

function askFor(words, kept = false) {
  state.query = words;
  page.prefix = [];
  if (kept) refresh({ kept });
  else soon();
}

function start() {
  readAddress(Object.keys(VIEWS));
  query.value = state.query;
  showPicks();
}

suggest(query, part("suggestions"), askFor);
part("ask").addEventListener("submit", (event) => { event.preventDefault(); clearTimeout(waiting); askFor(query.value, true); });
part("filters-toggle").addEventListener("click", (event) => {
  const shown = part("filters").classList.toggle("shown");
  event.currentTarget.setAttribute("aria-expanded", String(shown));
});
part("key-form").addEventListener("submit", () => { state.key = part("key-value").value.trim(); part("key-value").value = ""; learn(); });
for (const [place, tab] of tabs.entries()) {
  tab.addEventListener("click", () => choose(tab.id.slice(4)));
  tab.addEventListener("keydown", (event) => {
    const shown = tabs.filter((each) => !each.hidden), at = shown.indexOf(tabs[place]);
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    const to = { Home: 0, End: shown.length - 1 }[event.key] ?? (step && (at + step + shown.length) % shown.length);
    if (to === undefined) return;
    event.preventDefault();
    choose(shown[to].id.slice(4), { focus: true });
  });
}
document.addEventListener("keydown", (event) => {
  const typing = event.target.closest?.("input, textarea, select, dialog");
  if (event.key !== "/" || typing || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  query.focus();
  query.select();
});
addEventListener("popstate", () => { start(); if (state.about) choose(state.view, { kept: false }); });
addEventListener("online", () => (state.about ? refresh() : learn()));
start();
learn();
