// Hits as cards, the views of search and of recommendation, and why one item came or did not come.
import { ask, isEmpty, question, state } from "./state.js";
import { codes, count, make, percent, show, written } from "./parts.js";

const FACTS = 4; // attributes on a card

export function card(hit, page, { note = "", shared = false, compact = false } = {}) {
  const facts = Object.entries(hit.metadata || {}).filter(([, value]) => value !== null && written(value).length <= 40);
  const picked = state.picks.some((pick) => pick.id === hit.id);
  const pick = make("button", { type: "button", "aria-pressed": String(picked), onclick: () => page.pick(hit) }, picked ? "Picked" : "Pick");
  const why = make("button", { type: "button", onclick: () => page.why(hit) }, "Why?");
  pick.setAttribute("aria-label", `${picked ? "Picked" : "Pick"}: ${hit.title}`);
  why.setAttribute("aria-label", `Why ${hit.title}`);
  return make(
    "li",
    { class: `hit${shared ? " shared" : ""}`, "data-id": hit.id },
    make("p", { class: "rank" }, `${hit.rank}. ${hit.id}${note ? ` · ${note}` : ""}`),
    make("h3", { dir: "auto" }, hit.title),
    compact ? null : make("p", { class: "facts", dir: "auto" }, facts.slice(0, FACTS).map(([name, value]) => `${name} ${written(value)}`).join(" · ")),
    compact ? null : make("div", { class: "actions" }, pick, why),
  );
}

export function told(answer) {
  const found = answer.hits.length;
  const end = answer.exhausted ? "; there are no more" : "";
  return [`${count(found, "item")} in ${answer.took_ms.toFixed(answer.took_ms < 10 ? 1 : 0)} ms${end}`, ...answer.warnings].join(" · ");
}

async function showHits(view, page, body, signal) {
  const answer = await ask("/v1/search", { ...body, k: state.count }, { signal });
  const more = make("button", { type: "button", onclick: () => page.more() }, "Show more");
  const none = make("p", {}, "No item is allowed by these filters.");
  show(view, answer.hits.length ? make("ol", { class: "hits" }, ...answer.hits.map((hit) => card(hit, page))) : none, answer.exhausted ? null : make("p", {}, more));
  page.tell(told(answer));
}

export async function searchView(view, page, signal) {
  const body = question();
  if (isEmpty(body)) {
    show(view, make("p", {}, "Type above: answers come as you type. Pick items to see what shoppers like this take next."));
    return page.tell("");
  }
  await showHits(view, page, body, signal);
}

export async function shoppersView(view, page, signal) {
  if (!state.picks.length) {
    show(view, make("p", {}, "Pick items in the search first; then this shows what somebody who took them, in that order, may take next."));
    return page.tell("");
  }
  await showHits(view, page, question({ words: page.withWords, past: true }), signal);
  const both = make("button", { type: "button", "aria-pressed": String(page.withWords), onclick: () => page.toggleWords() }, "Use the words of the query too");
  view.prepend(make("p", {}, both));
}

// Why this item: its identifier, one token after the other, with what the model thought of each.
export async function whyDialog(dialog, hit, past) {
  const close = make("button", { type: "button", onclick: () => dialog.close() }, "Close");
  show(dialog, make("h2", { id: "why-title", dir: "auto" }, `Why ${hit.title}`), make("p", {}, "Asking …"), close);
  dialog.showModal();
  let page;
  try {
    const body = { ...question({ past: past.past, words: past.words }), k: state.count, item_id: hit.id, beams: 20, children: 20 };
    page = await ask("/v1/explain", body);
  } catch (error) {
    show(dialog, make("h2", { id: "why-title" }, "Why"), make("p", { role: "alert" }, error.message), close);
    return;
  }
  const { item, trace } = page;
  const mine = page.hits.find((each) => each.id === hit.id);
  const sum = mine?.log_probability ?? null;
  const chance = sum === null ? "" : ` The model writes its identifier with probability ${percent(Math.exp(sum))} (log-probability ${sum.toFixed(2)}).`;
  const rank = item.rank === null ? "It is not among the answers." : `It is answer ${item.rank}.`;
  show(
    dialog,
    make("h2", { id: "why-title", dir: "auto" }, `Why ${hit.title}`),
    make("p", {}, `${rank}${chance}`),
    mine?.found_by ? make("p", {}, `Found by ${foundBy(mine.found_by)}.`) : null,
    mine?.matched?.length ? make("p", {}, "Words that match: ", make("strong", { dir: "auto" }, mine.matched.join(", "))) : null,
    marked(mine),
    item.identifier === null ? null : make("p", {}, "Identifier: ", make("code", {}, codes(item.identifier))),
    make("p", { class: "small" }, `How the decoder tells it: ${item.story}.`),
    pathTable(item, trace),
    make("p", {}, close),
  );
  close.focus();
}

// The passage by which an item was found, its n-grams marked.
function marked(hit) {
  if (!hit?.ngrams?.length) return null;
  const { text, number, of } = hit.passage;
  const parts = [];
  let done = 0;
  for (const { start, end, score } of hit.ngrams) {
    if (start < done) continue;
    parts.push(characters(text, done, start), make("mark", { title: `adds ${score.toFixed(1)}` }, characters(text, start, end)));
    done = end;
  }
  parts.push(characters(text, done));
  const place = of > 1 ? `, in passage ${number} of ${of}` : "";
  return make("div", {}, make("p", {}, `The model wrote what is marked${place}:`), make("blockquote", { dir: "auto" }, ...parts));
}

// Count characters as the server does: an emoji is one.
function characters(text, start, end) {
  return [...text].slice(start, end).join("");
}

function foundBy(lanes) {
  return Object.entries(lanes).map(([name, found]) => `${name} (place ${found.rank})`).join(", ");
}

function pathTable(item, trace) {
  const rows = [];
  (item.identifier || []).forEach((token, place) => {
    const step = trace.steps[place];
    const before = item.identifier.slice(0, place);
    const beam = step?.beams.find((each) => codes(each.prefix) === codes(before));
    const child = beam?.children.find((each) => each.token === token);
    if (!child) return;
    const better = beam.children.filter((each) => each.probability > child.probability).length;
    rows.push(
      make("tr", {}, make("td", {}, String(place + 1)), make("td", {}, String(token)), make("td", { dir: "auto" }, child.spelling), make("td", { class: "number" }, percent(child.probability)), make("td", { class: "number" }, `${better + 1} of ${beam.allowed}`), make("td", { class: "number" }, String(child.items))),
    );
  });
  if (!rows.length) return null;
  const head = ["step", "token", "stands for", "probability", "place", "items left"].map((word, place) => make("th", { scope: "col", class: place > 2 ? "number" : null }, word));
  return make("div", { class: "scroll" }, make("table", {}, make("thead", {}, make("tr", {}, ...head)), make("tbody", {}, ...rows)));
}
