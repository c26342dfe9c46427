// Why an item came: which methods found it, which words match, and its identifier, one token after the other.
import { ask, question } from "./state.js";
import { foundBy } from "./hits.js";
import { codes, make, percent, plain, show } from "./parts.js";

const K = 12; // answers among which it is looked for

export async function whyDialog(dialog, hit, past) {
  const close = make("button", { type: "button", onclick: () => dialog.close() }, "Close");
  const title = make("h2", { id: "why-title", dir: "auto" }, `Why “${hit.title}”?`);
  show(dialog, title, make("p", {}, "Asking …"), close);
  dialog.showModal();
  let page;
  try {
    const body = { ...question({ past: past.past, words: past.words }), k: Math.max(K, hit.rank), item_id: hit.id, beams: 20, children: 20 };
    page = await ask("/v1/explain", body);
  } catch (error) {
    show(dialog, title, make("p", { role: "alert" }, error.message), close);
    return;
  }
  const { item, trace } = page;
  const mine = page.hits.find((each) => each.id === hit.id);
  const sum = mine?.log_probability ?? null;
  const table = pathTable(item, trace);
  show(
    dialog,
    title,
    make("p", {}, item.rank === null ? "It is not among the answers." : `It is answer ${item.rank}.`),
    mine?.found_by ? make("p", {}, "Found by ", make("strong", {}, foundBy(mine.found_by)), ". The number is its place there.") : null,
    mine?.matched?.length ? make("p", {}, "Words that match: ", make("strong", { dir: "auto" }, mine.matched.join(", "))) : null,
    mine?.soft_filters?.length ? make("p", {}, "Moved up, for its attributes say: ", make("strong", { dir: "auto" }, mine.soft_filters.join(", "))) : null,
    passage(mine),
    sum === null ? null : make("p", {}, `The generative model writes its identifier with probability ${percent(Math.exp(sum))} (log-probability ${sum.toFixed(2)}).`),
    table && make("details", { open: true }, make("summary", {}, "Its identifier, token by token: ", make("code", {}, codes(item.identifier))), table, make("p", { class: "small" }, `How the decoder tells it: ${item.story}.`)),
    make("p", {}, close),
  );
  close.focus();
}

// The passage by which an item was found, its n-grams marked.
function passage(hit) {
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

function pathTable(item, trace) {
  const rows = [];
  (item.identifier || []).forEach((token, place) => {
    const before = codes(item.identifier.slice(0, place));
    const beam = trace.steps[place]?.beams.find((each) => codes(each.prefix) === before);
    const child = beam?.children.find((each) => each.token === token);
    if (!child) return;
    const better = beam.children.filter((each) => each.probability > child.probability).length;
    const stands = child.words?.length && child.items > 1 ? child.words.join(" ") : plain(child.spelling);
    const cells = [String(place + 1), stands, percent(child.probability), `${better + 1} of ${beam.allowed}`, String(child.items)];
    rows.push(make("tr", {}, ...cells.map((cell, column) => make("td", { class: column > 1 ? "number" : null, dir: column === 1 ? "auto" : null }, cell))));
  });
  if (!rows.length) return null;
  const head = ["step", "holds", "probability", "place", "items left"].map((word, place) => make("th", { scope: "col", class: place > 1 ? "number" : null }, word));
  return make("div", { class: "scroll", tabindex: "0", role: "group", "aria-label": "Its identifier, token by token" }, make("table", {}, make("thead", {}, make("tr", {}, ...head)), make("tbody", {}, ...rows)));
}
