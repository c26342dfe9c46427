// How an answer was written: the decode step by step, in words, on one screen.
import { ask, isEmpty, question, state } from "./state.js";
import { codes, count, draw, make, meter, NARROW, percent, plain, show } from "./parts.js";

const K = 10, BEAMS = 20, CHILDREN = NARROW ? 5 : 6; // answers; beams that the server lists; continuations of each
const ROWS = NARROW ? 5 : 7, HEIGHT = 34, WIDTH = 190, GAP = 34, TOP = 26; // beams drawn of a step; pixels

export async function railsView(view, page, signal) {
  const body = question({ past: state.picks.length > 0 });
  if (isEmpty(body)) {
    show(view, make("p", { class: "notice" }, "Type above, or pick items: then you can watch the generative model write the identifiers of its answers."));
    return page.tell("");
  }
  const answer = await ask("/v1/explain", { ...body, k: K, beams: BEAMS, children: CHILDREN }, { signal });
  const { steps } = answer.trace;
  if (!steps.length) {
    show(view, make("p", { class: "notice" }, "This engine has no generative model, or the filters allow nothing, so nothing was written."));
    return page.tell("");
  }
  play(view, new Story(answer), page);
  page.tell("");
}

// What the steps hold, by prefix: names, items below, the way to the first answer that was written.
class Story {
  constructor(answer) {
    this.steps = answer.trace.steps;
    this.children = new Map();
    for (const beam of this.steps.flatMap((step) => step.beams)) this.children.set(codes(beam.prefix), beam);
    for (const step of this.steps)
      for (const beam of step.beams) for (const child of beam.children) this.children.set(codes([...beam.prefix, child.token]), child);
    const written = answer.hits.find((hit) => hit.identifier && this.children.has(codes(hit.identifier)));
    this.way = written?.identifier ?? best(this.steps.at(-1));
    this.others = !answer.hits.some((hit) => hit.identifier);
    this.winner = written?.title ?? plain(this.children.get(codes(this.way))?.spelling ?? codes(this.way));
  }
  onWay(prefix) {
    return prefix.every((token, place) => this.way[place] === token);
  }
  // Words of the titles below; of a model that writes words, what this token adds.
  name(prefix) {
    if (!prefix.length) return "all items";
    const child = this.children.get(codes(prefix));
    if (!child) return codes(prefix);
    if (child.words?.length && child.items > 1) return child.words.join(" ");
    const before = this.children.get(codes(prefix.slice(0, -1)))?.spelling ?? "";
    if (before && child.spelling.startsWith(before) && child.spelling !== before) return child.spelling.slice(before.length);
    return plain(child.spelling) || codes(prefix);
  }
  // The beams that are drawn: the best, and the way of the winner.
  drawn(place) {
    const beams = this.steps[place].beams, best = beams.slice(0, ROWS);
    const mine = beams.find((beam) => this.onWay(beam.prefix));
    return mine && !best.includes(mine) ? [...best.slice(0, -1), mine] : best;
  }
}

// The most probable continuation of a step, from the start on.
function best(step) {
  const all = step.beams.flatMap((beam) => beam.children.map((child) => [Math.exp(beam.log_probability ?? -Infinity) * child.probability, [...beam.prefix, child.token]]));
  return all.reduce((one, other) => (other[0] > one[0] ? other : one), [-1, []])[1];
}

function play(view, story, page) {
  const { steps } = story;
  let now = 0, timer = 0, chosen = null;
  const range = make("input", { type: "range", id: "step", min: "1", max: String(steps.length), value: "1", oninput: () => go(Number(range.value) - 1) });
  const back = make("button", { type: "button", onclick: () => go(now - 1) }, "Back");
  const on = make("button", { type: "button", class: "main", onclick: () => go(now + 1) }, "Next step");
  const run = make("button", { type: "button", "aria-pressed": "false", onclick: () => (timer ? halt() : start()) }, "Play");
  const said = make("p", { role: "status", "aria-live": "polite" });
  const picture = make("div", { class: "scroll tree", tabindex: "0", role: "group", "aria-label": "The steps, from left to right" });
  const detail = make("div", {});

  function start() {
    if (now === steps.length - 1) go(0);
    run.setAttribute("aria-pressed", "true");
    timer = setInterval(() => (document.contains(run) && now < steps.length - 1 ? go(now + 1) : halt()), 1200);
  }
  function halt() {
    clearInterval(timer);
    timer = 0;
    run.setAttribute("aria-pressed", "false");
  }
  function go(step, beam = null) {
    now = Math.max(0, Math.min(steps.length - 1, step));
    chosen = beam ?? steps[now].beams.find((each) => story.onWay(each.prefix)) ?? steps[now].beams[0];
    range.value = String(now + 1);
    range.setAttribute("aria-valuetext", `step ${now + 1} of ${steps.length}`);
    back.disabled = now === 0;
    on.disabled = now === steps.length - 1;
    const { beam_count, kept } = steps[now];
    said.textContent = `Step ${now + 1} of ${steps.length}: ${count(beam_count, "beginning")}; of what may follow, ${count(kept.length, "is", "are")} kept.`;
    show(picture, drawing(story, now, chosen, go));
    show(detail, beamCard(story, chosen, now));
    picture.scrollLeft = Math.max(0, now * (WIDTH + GAP) - picture.clientWidth / 3);
  }
  const title = make("p", { class: "small" }, story.others ? "Other methods decided these answers; this is what the generative model writes by itself. " : "", "In bold, the way to ", make("strong", { dir: "auto" }, story.winner), ".");
  show(view, make("div", { class: "row" }, back, on, run, make("label", { for: "step" }, "Step"), range), said, title, picture, detail);
  go(0);
}

function beamCard(story, beam, place) {
  const kept = new Set(story.steps[place].kept.map(codes));
  const rows = beam.children.map((child) => {
    const prefix = [...beam.prefix, child.token], lives = kept.has(codes(prefix));
    return make("tr", { class: [lives ? "kept" : "", story.onWay(prefix) ? "way" : ""].join(" ").trim() || null },
      make("td", { dir: "auto" }, story.name(prefix)),
      make("td", {}, make("code", {}, String(child.token))),
      make("td", { class: "number" }, make("span", { class: "level" }, meter(child.probability, percent(child.probability)), percent(child.probability))),
      make("td", { class: "number" }, child.items.toLocaleString("en")),
      make("td", {}, lives ? "kept" : "–"));
  });
  const head = ["what is below", "token", "probability", "items", ""].map((word, column) => make("th", { scope: "col", class: column === 2 || column === 3 ? "number" : null }, word || make("span", { class: "hidden" }, "kept")));
  const chance = beam.log_probability === null ? 0 : Math.exp(beam.log_probability);
  const removed = beam.removed_mass > 5e-4 ? ` Forbidden tokens had ${percent(beam.removed_mass)} of the model's probability.` : "";
  const more = beam.allowed > beam.children.length ? ` The ${beam.children.length} most probable of ${beam.allowed} are shown.` : "";
  return make("section", { class: "card beam", "aria-label": "What may follow" },
    make("h3", { dir: "auto" }, `After “${story.name(beam.prefix)}”`),
    make("p", { class: "small" }, `Probability so far ${percent(chance)}. ${count(beam.allowed, "token")} may follow, because ${beam.allowed === 1 ? "it leads" : "they lead"} to items that are allowed.${removed}${more}`),
    make("div", { class: "scroll", tabindex: "0", role: "group", "aria-label": "Continuations" }, make("table", {}, make("thead", {}, make("tr", {}, ...head)), make("tbody", {}, ...rows))));
}

// Columns are steps, boxes are beginnings that the search holds, lines are tokens that were written.
function drawing(story, now, chosen, go) {
  const columns = story.steps.map((_, place) => story.drawn(place));
  const width = columns.length * (WIDTH + GAP), height = TOP + HEIGHT * Math.max(...columns.map((beams) => beams.length));
  const svg = draw("svg", { class: "rails", width, height, viewBox: `0 0 ${width} ${height}`, "aria-hidden": "true" });
  const box = make("div", { class: "boxes" });
  box.style.width = `${width}px`;
  box.style.height = `${height}px`;
  const x = (column) => column * (WIDTH + GAP), y = (row) => TOP + HEIGHT * row;
  const rowOf = columns.map((beams) => new Map(beams.map((beam, row) => [codes(beam.prefix), row])));
  columns.forEach((beams, column) => {
    beams.forEach((beam, row) => {
      if (column) {
        const from = rowOf[column - 1].get(codes(beam.prefix.slice(0, -1)));
        if (from !== undefined) svg.append(line(x(column - 1) + WIDTH, y(from) + HEIGHT / 2 - 2, x(column), y(row) + HEIGHT / 2 - 2, story.onWay(beam.prefix)));
      }
      box.append(beamBox(story, beam, column, now, beam === chosen, x(column), y(row), go));
    });
    const label = draw("text", { x: x(column) + 2, y: 16 });
    const hidden = story.steps[column].beam_count - beams.length;
    label.textContent = `step ${column + 1}${hidden > 0 ? ` · ${hidden} more` : ""}`;
    svg.append(label);
  });
  box.prepend(svg);
  return box;
}

function line(x1, y1, x2, y2, way) {
  return draw("path", { d: `M${x1} ${y1} C${x1 + GAP / 2} ${y1} ${x2 - GAP / 2} ${y2} ${x2} ${y2}`, class: way ? "way" : "" });
}

function beamBox(story, beam, column, now, chosen, left, top, go) {
  const name = story.name(beam.prefix);
  const kind = [column === now ? "now" : "", story.onWay(beam.prefix) ? "way" : ""].join(" ");
  const button = make("button", { type: "button", class: `beam-box ${kind}`.trim(), "aria-pressed": String(chosen && column === now), title: name, onclick: () => go(column, beam) }, make("span", { dir: "auto" }, name));
  const chance = beam.log_probability === null ? 0 : Math.exp(beam.log_probability);
  if (column) button.append(make("span", { class: "chance" }, percent(chance)));
  Object.assign(button.style, { left: `${left}px`, top: `${top}px`, width: `${WIDTH}px`, height: `${HEIGHT - 4}px` });
  return button;
}
