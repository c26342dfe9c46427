// The map of the identifiers: every tile is a branch of the tree, as large as the items below it.
import { ask, isEmpty, question, state } from "./state.js";
import { codes, count, make, NARROW, show } from "./parts.js";

const FOUND = 50; // answers that are marked

export async function mapView(view, page, signal) {
  const prefix = page.prefix;
  const asked = question({ past: state.picks.length > 0 });
  const body = { prefix, most: NARROW ? 20 : 64, ...(asked.where ? { where: asked.where } : {}) };
  const [tree, answer] = await Promise.all([
    ask("/v1/branches", body, { signal }),
    isEmpty(asked) ? null : ask("/v1/explain", { ...asked, k: FOUND, beams: 1, children: 1 }, { signal }),
  ]);
  const below = new Map();
  for (const hit of answer?.hits || []) {
    const path = hit.identifier || [];
    if (path.length > prefix.length && prefix.every((token, place) => path[place] === token)) {
      const token = path[prefix.length];
      below.set(token, (below.get(token) || 0) + 1);
    }
  }
  const steps = [[], ...prefix.map((_, place) => prefix.slice(0, place + 1))];
  const trail = steps.map((each) => make("button", { type: "button", class: "link", "aria-current": each.length === prefix.length ? "location" : null, onclick: () => page.open(each) }, each.length ? (page.names.get(codes(each)) ?? String(each.at(-1))) : "All items"));
  const tiles = make("div", { class: "tiles" });
  const { others } = tree;
  const leaf = tree.children.length === 1 && tree.children[0].items === tree.items && tree.items <= 20;
  show(view, make("nav", { class: "row", "aria-label": "Way down the tree" }, ...trail), leaf ? itemsList(tree) : tiles,
    others.children ? make("p", { class: "small" }, `${count(others.children, "smaller branch", "smaller branches")} with ${count(others.items, "item")} not drawn.`) : null,
    make("p", { class: "small" }, "A tile is a branch of the identifiers' tree, as large as the items below it, named by words that their titles share. Filled tiles hold answers to what was asked. Choose a tile to go down."));
  if (!leaf) lay(tiles, tree.children, below, (child, title) => { page.names.set(codes([...prefix, child.token]), title); page.open([...prefix, child.token]); });
  const marked = answer ? ` · ${count([...below.values()].reduce((sum, each) => sum + each, 0), "answer")} of ${answer.hits.length} here` : "";
  page.tell(`${count(tree.items, "item")}${prefix.length ? ` below “${page.names.get(codes(prefix)) ?? codes(prefix)}”` : ""} in ${count(tree.children.length + others.children, "branch", "branches")}${marked}`);
}

function itemsList(tree) {
  return make("ul", {}, ...tree.children[0].examples.map((item) => make("li", { dir: "auto" }, `${item.title} (${item.id})`)));
}

function lay(tiles, children, below, open) {
  const boxes = squarify(children.map((child) => child.items), 0, 0, 100, 100);
  children.forEach((child, place) => {
    const [x, y, width, height] = boxes[place];
    const hits = below.get(child.token) || 0;
    const title = child.words?.length && child.items > 1 ? child.words.join(" ") : (child.examples[0]?.title ?? "");
    const short = width * height < 200 ? title.split(" ").slice(0, 2).join(" ") : title;
    const text = `${short}${hits ? ` · ${count(hits, "answer")}` : ""}`;
    const tile = make("button", { type: "button", class: `tile${hits ? " found" : ""}`, title: `${child.token}: ${count(child.items, "item")}, such as ${child.examples.map((item) => item.title).join("; ")}`, "aria-label": `${title}: ${count(child.items, "item")}${hits ? `, ${count(hits, "answer")}` : ""}`, onclick: () => open(child, title) });
    if (width > 6 && height > 5) tile.textContent = text;
    Object.assign(tile.style, { left: `${x}%`, top: `${y}%`, width: `${width}%`, height: `${height}%` });
    tiles.append(tile);
  });
}

// Squarified treemap (Bruls, Huizing and van Wijk, 2000): rows along the shorter side, as square as they come.
function squarify(sizes, x, y, width, height) {
  const boxes = [];
  let rest = sizes.reduce((sum, size) => sum + size, 0), first = 0;
  while (first < sizes.length) {
    const across = width < height ? width : height, scale = (width * height) / rest;
    let last = first, sum = 0, worst = Infinity;
    for (let next = first; next < sizes.length; next += 1) {
      const larger = (sum + sizes[next]) * scale, thick = larger / across;
      const now = Math.max(...sizes.slice(first, next + 1).map((size) => { const long = (size * scale) / thick; return Math.max(long / thick, thick / long); }));
      if (now > worst) break;
      worst = now; sum += sizes[next]; last = next + 1;
    }
    const thick = (sum * scale) / across;
    let at = 0;
    for (let place = first; place < last; place += 1) {
      const long = (sizes[place] * scale) / thick;
      boxes.push(width < height ? [x + at, y, long, thick] : [x, y + at, thick, long]);
      at += long;
    }
    if (width < height) { y += thick; height -= thick; } else { x += thick; width -= thick; }
    rest -= sum; first = last;
  }
  return boxes;
}
