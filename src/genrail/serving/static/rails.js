// The rails player: a decode, step by step.
import { ask, isEmpty, question, state } from "./state.js";
import { codes, count, draw, make, meter, percent, show } from "./parts.js";

const BEAMS = 20; // that the server lists
const ROW = 19, COLUMN = 150, LEFT = 40, TOP = 24;

export async function railsView(view, page, signal) {
  const body = question({ past: state.picks.length > 0 });
  if (isEmpty(body)) {
    show(view, make("p", {}, "Type above, or pick items: then every step of the decode can be looked at."));
    return page.tell("");
  }
  const answer = await ask("/v1/explain", { ...body, k: state.count, beams: BEAMS, children: 8 }, { signal });
  const { steps } = answer.trace;
  if (!steps.length) {
    show(view, make("p", {}, "Nothing is allowed by these filters, so nothing was decoded."));
    return page.tell("");
  }
  play(view, steps, answer, page);
}

function play(view, steps, answer, page) {
  let now = 0, timer = 0;
  const names = spellings(steps);
  const range = make("input", { type: "range", id: "step", min: "1", max: String(steps.length), value: "1", oninput: () => go(Number(range.value) - 1) });
  const back = make("button", { type: "button", onclick: () => go(now - 1) }, "Back");
  const on = make("button", { type: "button", class: "main", onclick: () => go(now + 1) }, "Next step");
  const run = make("button", { type: "button", "aria-pressed": "false", onclick: () => (timer ? halt() : start()) }, "Play");
  const said = make("p", { role: "status", "aria-live": "polite" });
  const picture = make("div", { class: "scroll", tabindex: "0", role: "group", "aria-label": "Picture of the decode" });
  const beams = make("div", { class: "beams" });

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
  function go(step) {
    now = Math.max(0, Math.min(steps.length - 1, step));
    range.value = String(now + 1);
    range.setAttribute("aria-valuetext", `step ${now + 1} of ${steps.length}`);
    back.disabled = now === 0;
    on.disabled = now === steps.length - 1;
    const { beam_count, kept, died } = steps[now];
    said.textContent = `Step ${now + 1} of ${steps.length}: ${count(beam_count, "beam")} came in, ${count(kept.length, "prefix", "prefixes")} went on, ${count(died.length, "beam")} ended or died.`;
    show(picture, drawing(steps, now));
    const gone = new Set(died.map(codes));
    show(beams, ...steps[now].beams.map((beam) => beamCard(beam, names, gone.has(codes(beam.prefix)), now === steps.length - 1)));
  }
  show(
    view,
    make("div", { class: "row" }, back, on, run, make("label", { for: "step" }, "Step"), range),
    said, picture,
    make("p", { class: "small" }, "A filled dot is a beam of this step, a dashed one ended or died there. Bold rows below went on. Probabilities are the model's own, before anything is forbidden; the red bar is what the rails took away."),
    beams,
  );
  go(0);
  page.tell(`${count(answer.hits.length, "item")} in ${answer.took_ms.toFixed(0)} ms, recorded step by step`);
}

function spellings(steps) {
  const names = new Map();
  for (const step of steps)
    for (const beam of step.beams)
      for (const child of beam.children) names.set(codes([...beam.prefix, child.token]), child.spelling);
  return names;
}

function beamCard(beam, names, died, last) {
  const rows = beam.children.map((child) =>
    make("tr", { class: child.kept ? "kept" : null },
      make("td", {}, String(child.token), child.kept ? make("span", { class: "small" }, " kept") : null),
      make("td", { dir: "auto" }, child.spelling),
      make("td", { class: "number" }, percent(child.probability), meter(child.probability, percent(child.probability))),
      make("td", { class: "number" }, String(child.items))));
  const head = ["token", "stands for", "probability", "items below"].map((word, place) => make("th", { scope: "col", class: place > 1 ? "number" : null }, word));
  const fate = died ? (last ? " · ended" : " · ended or died") : "";
  return make("section", { class: `card beam${died ? " died" : ""}`, "aria-label": `Beam ${codes(beam.prefix)}` },
    make("h3", {}, make("code", {}, codes(beam.prefix)), fate),
    make("p", { class: "small", dir: "auto" }, names.get(codes(beam.prefix)) || ""),
    make("p", { class: "small" }, `probability so far ${beam.log_probability === null ? "0 %" : percent(Math.exp(beam.log_probability))} · ${count(beam.allowed, "token")} allowed · the rails removed ${percent(beam.removed_mass)}`),
    meter(beam.removed_mass, `removed ${percent(beam.removed_mass)}`, "removed"),
    make("div", { class: "scroll" }, make("table", {}, make("thead", {}, make("tr", {}, ...head)), make("tbody", {}, ...rows))));
}

function drawing(steps, now) {
  const tall = Math.max(...steps.map((step) => step.beams.length));
  const width = LEFT * 2 + COLUMN * steps.length, height = TOP + ROW * tall + 10;
  const svg = draw("svg", { class: "rails", width, height, viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `Beams of ${steps.length} steps` });
  const place = steps.map((step) => new Map(step.beams.map((beam, row) => [codes(beam.prefix), row])));
  const x = (column) => LEFT + column * COLUMN, y = (row) => TOP + ROW * row + ROW / 2;
  steps.forEach((step, column) => {
    for (const kept of step.kept) {
      const from = place[column].get(codes(kept.slice(0, -1)));
      const to = place[column + 1]?.get(codes(kept));
      if (from === undefined || (to === undefined && column + 1 < steps.length)) continue;
      const end = to === undefined ? from : to;
      const line = draw("path", { d: `M${x(column)} ${y(from)} C${x(column) + 60} ${y(from)} ${x(column + 1) - 60} ${y(end)} ${x(column + 1)} ${y(end)}` });
      if (column === now) line.setAttribute("class", "now");
      svg.append(line);
    }
  });
  steps.forEach((step, column) => {
    const gone = new Set(step.died.map(codes));
    const label = draw("text", { x: x(column) - 20, y: 14 });
    label.textContent = `step ${column + 1}`;
    svg.append(label);
    step.beams.forEach((beam, row) => {
      const dot = draw("circle", { cx: x(column), cy: y(row), r: 6 });
      dot.setAttribute("class", [column === now ? "now" : "", gone.has(codes(beam.prefix)) ? "died" : ""].join(" ").trim());
      const title = draw("title");
      title.textContent = codes(beam.prefix);
      dot.append(title);
      svg.append(dot);
    });
  });
  return svg;
}
