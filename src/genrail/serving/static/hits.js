// Answers as cards, the views of search and of recommendation.
import { ask, isEmpty, question, state, Trouble } from "./state.js";
import { count, make, ordinal, show, written } from "./parts.js";

const FACTS = 4; // attributes on a card
const PAGE = 12; // hits
const PAUSE = 600; // milliseconds without a new question until it is asked who found what
const LANES = {
  bm25: "words", tfidf: "words", dense: "meaning", "two-tower": "meaning, as taught", "late-interaction": "words in context", native: "the trained network",
  titles: "the language model", codes: "the language model", tiger: "TIGER", cooccurrence: "taken together", "item-knn": "taken together", sasrec: "order of purchases", popularity: "popularity", lookup: "the exact name",
};

export function card(hit, page, { note = "", shared = false, compact = false } = {}) {
  const data = hit.metadata || {}, price = attribute(/price|preis|prix|cost/i, data, "number"), image = attribute(/image|img|picture|photo|thumb/i, data, "string");
  const colour = attribute(/colou?r|farbe/i, data, "string");
  const facts = Object.entries(data).filter(([name, value]) => value !== null && ![price, image].includes(name) && written(value).length <= 40);
  const picked = state.picks.some((pick) => pick.id === hit.id);
  const pick = make("button", { type: "button", "aria-pressed": String(picked), onclick: () => page.pick(hit) }, picked ? "Picked" : "Pick");
  const why = make("button", { type: "button", onclick: () => page.why(hit) }, "Why?");
  pick.setAttribute("aria-label", `${picked ? "Picked" : "Pick"}: ${hit.title}`);
  why.setAttribute("aria-label", `Why? ${hit.title}`);
  return make(
    "li",
    { class: `hit${shared ? " shared" : ""}`, "data-id": hit.id },
    compact ? null : picture(image && data[image]),
    make("p", { class: "rank" }, swatch(colour && data[colour]), `${hit.rank}. ${hit.id}${note ? ` · ${note}` : ""}`),
    make("h3", { dir: "auto" }, ...marked(hit.title, hit.matched ?? state.query.split(/\s+/))),
    price ? make("p", { class: "price" }, data[price].toLocaleString("en", { minimumFractionDigits: Number.isInteger(data[price]) ? 0 : 2 })) : null,
    compact ? null : make("p", { class: "facts", dir: "auto" }, facts.slice(0, FACTS).map(([name, value]) => (typeof value === "boolean" ? `${value ? "" : "not "}${name.replaceAll("_", " ")}` : written(value))).join(" · ")),
    compact ? null : make("p", { class: "found" }),
    compact ? null : make("div", { class: "actions" }, pick, why),
  );
}

const attribute = (pattern, data, type) => Object.keys(data).find((name) => pattern.test(name) && typeof data[name] === type);

// Only what this server's policy lets in is shown; what cannot be loaded leaves no hole.
function picture(address) {
  if (!address || !(address.startsWith("/") || state.about.images.some((origin) => address.startsWith(`${origin}/`)))) return null;
  const image = make("img", { src: address, alt: "", loading: "lazy", class: "picture" });
  image.addEventListener("error", () => image.remove());
  return image;
}

function swatch(name) {
  const colour = (name || "").replaceAll(" ", "");
  if (!colour || !CSS.supports("color", colour)) return null;
  const dot = make("span", { class: "swatch" });
  dot.style.backgroundColor = colour;
  return dot;
}

function marked(title, words) {
  const known = words.filter((word) => word.length > 1).map((word) => word.replace(/[.*+?^${}()|[\]\\]/g, "\\$&")).sort((one, other) => other.length - one.length);
  if (!known.length) return [title];
  const parts = title.split(new RegExp(`(?<![\\p{L}\\p{N}])(${known.join("|")})(?![\\p{L}\\p{N}])`, "giu"));
  return parts.map((part, place) => (place % 2 ? make("mark", {}, part) : part));
}

export function told(answer, shown = answer.hits.length) {
  const end = answer.exhausted ? "; there are no more" : "";
  return [`${count(shown, "item")} in ${answer.took_ms.toFixed(answer.took_ms < 10 ? 1 : 0)} ms${end}`, ...answer.warnings].join(" · ");
}

// How words were read, and the way to have them taken as they stand.
function reading(answer, page) {
  const read = (answer.reading || []).filter((each) => each.wanted !== false); // a warning tells what is not
  if (!read.length && !state.plain) return null;
  const named = (each) => each.attributes.map((name) => name.replaceAll("_", " ")).map((name) => (name.toLowerCase() === each.words.toLowerCase() ? "an attribute" : name)).join(" or ");
  const parts = read.map((each) => `“${each.words}” as ${each.synonyms?.join(", ") || named(each)}`);
  const text = parts.length ? `Read ${parts.join("; ")}. ` : "";
  const change = make("button", { type: "button", class: "link", onclick: () => page.togglePlain() }, state.plain ? "Read words as attributes" : "Take the words as they stand");
  return make("p", { class: "small", dir: "auto" }, text, read.some((each) => each.wanted) || state.plain ? change : null);
}

// The answer, and the counts of each attribute that is filtered by as if it were not: so that more can be chosen.
async function answered(body, options, signal) {
  const names = state.about.attributes.map((each) => each.name);
  const main = { ...body, k: PAGE, highlight: true, facets: names };
  const chosen = Object.keys(state.filters).filter((name) => names.includes(name));
  if (!chosen.length) return [await ask("/v1/search", main, { signal }), new Map()];
  const others = chosen.map((name) => ({ ...question({ ...options, without: name }), k: 1, facets: [name] }));
  const { results, took_ms } = await ask("/v1/multi-search", { requests: [main, ...others] }, { signal });
  if (results[0].hits === undefined) throw new Trouble(results[0].detail, results[0].status);
  return [{ ...results[0], took_ms }, new Map(results.slice(1).flatMap((each) => each.facets || []).map((each) => [each.name, each]))];
}

async function showHits(view, page, options, signal) {
  const body = question(options);
  const [answer, open] = await answered(body, options, signal);
  const counted = new Map((answer.facets || []).map((each) => [each.name, each]));
  page.filters(new Map([...counted, ...open]));
  const list = make("ol", { class: "hits" }, ...answer.hits.map((hit) => card(hit, page)));
  const more = make("button", { type: "button", onclick: () => add(list, more, page, body) }, "Show more");
  const far = answer.fits === false ? make("p", { class: "notice" }, "Nothing here is near these words. The least far:") : null;
  if (answer.hits.length) show(view, far, reading(answer, page), list, answer.exhausted ? null : make("p", {}, more));
  else show(view, nothing(page));
  page.tell(told(answer));
  page.later(PAUSE, () => whoFound(list, body, signal));
}

async function add(list, more, page, body) {
  const shown = list.children.length;
  more.disabled = true;
  try {
    const answer = await ask("/v1/search", { ...body, k: PAGE, offset: shown, highlight: true });
    list.append(...answer.hits.map((hit) => card(hit, page)));
    if (answer.exhausted) more.remove();
    page.tell(told(answer, list.children.length));
    list.children[shown]?.querySelector("button").focus();
    page.later(PAUSE, () => whoFound(list, body));
  } catch (error) {
    page.trouble(error);
  }
  more.disabled = false;
}

// Which method found what is asked when somebody reads, not while they type: it costs a recorded search.
async function whoFound(list, body, signal) {
  const answer = await ask("/v1/explain", { ...body, k: list.children.length, beams: 1, children: 1 }, { signal }).catch(() => ({ hits: [] }));
  const lanes = new Map(answer.hits.map((hit) => [hit.id, hit.found_by]));
  for (const item of list.children) {
    const found = lanes.get(item.dataset.id);
    if (found) item.querySelector(".found").textContent = `Found by ${foundBy(found)}`;
  }
}

export function foundBy(lanes) {
  const places = Object.entries(lanes).sort((one, other) => one[1].rank - other[1].rank);
  return places.map(([name, { rank }]) => `${LANES[name] || name} (${ordinal(rank)})`).join(", ");
}

function nothing(page) {
  const clear = make("button", { type: "button", onclick: () => page.clearFilters() }, "Remove the filters");
  return make("div", { class: "notice" }, make("p", {}, "No item is allowed by these filters."), clear);
}

export async function searchView(view, page, signal) {
  if (isEmpty(question())) {
    page.filters(new Map());
    const { about } = state;
    show(view, make("div", { class: "notice" }, make("p", {}, `Type above: ${count(about.items, "item")} are searched as you type.`), make("p", { class: "small" }, "Pick items to see what shoppers like this take next; ask “Why?” of any answer.")));
    return page.tell("");
  }
  await showHits(view, page, {}, signal);
}

export async function shoppersView(view, page, signal) {
  if (!state.picks.length) {
    page.filters(new Map());
    show(view, make("p", { class: "notice" }, "Pick items in the search first; then this shows what somebody who took them, in that order, may take next."));
    return page.tell("");
  }
  await showHits(view, page, { words: page.withWords, past: true }, signal);
  const both = make("button", { type: "button", "aria-pressed": String(page.withWords), onclick: () => page.toggleWords() }, "Use the words of the query too");
  view.prepend(make("p", {}, both));
}
