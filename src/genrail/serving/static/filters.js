// Filters as check boxes with the counts of this question; they become one expression that anybody can read.
import { make, show, written } from "./parts.js";

const FACETS = 10; // attributes that get a control; any other can be named in the text field
const VALUES = 8; // that are shown before "more"
const PRICE = /price|preis|prix|cost/i;
const KEYWORDS = /^(and|or|not|in|like|ilike|between|is|null|true|false|has)$/i;

const named = (name) => (/^[A-Za-z_]\w*$/.test(name) && !KEYWORDS.test(name) ? name : "`" + name.replaceAll("`", "``") + "`");
const quoted = (value) => `'${String(value).replaceAll("'", "''")}'`;

// What is chosen, as a filter: { colour: { values: ["red"] }, price: { from: 10, to: 50 }, in_stock: { values: [true] } }.
export function expression(filters, free = "", without = null) {
  const parts = Object.entries(filters).filter(([name]) => name !== without).map(([name, chosen]) => condition(named(name), chosen)).filter(Boolean);
  if (free.trim()) parts.push(parts.length ? `(${free.trim()})` : free.trim());
  return parts.join(" AND ");
}

function condition(name, { values = [], from = null, to = null, kind = "words" }) {
  const bound = (value) => (kind === "moment" ? quoted(value) : Number(value));
  const parts = [];
  if (kind === "flag" && values.length === 1) parts.push(values[0] ? name : `${name} = false`);
  if (kind === "words" && values.length) parts.push(`${name} IN (${values.map(quoted).join(", ")})`);
  if (kind === "tags" && values.length) parts.push(`(${values.map((value) => `${name} HAS ${quoted(value)}`).join(" OR ")})`);
  if (from !== null) parts.push(`${name} >= ${bound(from)}`);
  if (to !== null) parts.push(`${name} <= ${bound(to)}`);
  return parts.join(" AND ");
}

const ranged = (attribute) => attribute.kind === "number" || attribute.kind === "moment";

// Prices first: they are what most people narrow down by, and take one line.
function usable(attributes) {
  const found = attributes.filter((each) => ranged(each) || each.values?.length);
  return [...found.filter((each) => ranged(each) && PRICE.test(each.name)), ...found.filter((each) => !(ranged(each) && PRICE.test(each.name)))].slice(0, FACETS);
}

// `counted`: of this question, by name; `changed` is told when something is chosen, `typed` while somebody types.
export function showFilters(pane, state, counted, { changed, typed }) {
  const focus = document.activeElement?.id;
  const chosen = Object.keys(state.filters).length + (state.where.trim() ? 1 : 0);
  const parts = usable(state.about.attributes).map((attribute) => {
    const control = ranged(attribute) ? range : boxes;
    return control(attribute, counted.get(attribute.name) || attribute, state.filters, { changed, typed });
  }).filter(Boolean);
  const free = make("input", { id: "filter-text", value: state.where, placeholder: "price < 100 AND in_stock", spellcheck: "false", oninput: () => { state.where = free.value; typed(); } });
  const whole = expression(state.filters, state.where);
  const clear = make("button", { type: "button", id: "filters-clear", class: "link", onclick: () => { state.filters = {}; state.where = ""; changed(); } }, "Clear all");
  const told = make("p", { class: "small" }, "Counts are of the best 100 answers.");
  show(pane, make("div", { class: "row" }, make("h2", {}, "Filters"), chosen ? clear : null), ...parts,
    make("div", { class: "facet" }, make("label", { for: "filter-text" }, "As an expression"), free, whole ? make("code", { class: "small" }, whole) : null), told);
  if (focus && pane.querySelector(`#${CSS.escape(focus)}`)) pane.querySelector(`#${CSS.escape(focus)}`).focus();
  return chosen;
}

function boxes({ name, kind }, { values = [], counts = [] }, filters, { changed }) {
  const mine = filters[name]?.values || [];
  const shown = [...new Map([...mine.map((value) => [value, 0]), ...values.map((value, place) => [value, counts[place]])])];
  if (shown.length < 2 && !mine.length) return null; // nothing to choose between
  shown.sort((one, other) => other[1] - one[1]);
  const flip = (value, on) => {
    const left = on ? [...mine, value] : mine.filter((each) => each !== value);
    if (left.length) filters[name] = { kind: kind === "other" ? "words" : kind, values: left };
    else delete filters[name];
    changed();
  };
  const rows = shown.map(([value, items], place) => {
    const id = `filter-${name}-${String(value)}`;
    const box = make("input", { type: "checkbox", id, checked: mine.includes(value), onchange: (event) => flip(value, event.target.checked) });
    return make("div", { class: place >= VALUES && !mine.includes(value) ? "box rest" : "box" }, box, make("label", { for: id, dir: "auto" }, written(value)), make("span", { class: "number" }, items.toLocaleString("en")));
  });
  const rest = rows.filter((row) => row.classList.contains("rest"));
  const more = rest.length ? make("details", {}, make("summary", {}, `${rest.length} more`), ...rest) : null;
  return make("fieldset", { class: "facet" }, make("legend", {}, name.replaceAll("_", " ")), ...rows.filter((row) => !rest.includes(row)), more);
}

function range({ name, kind }, { least, most }, filters, { typed }) {
  const mine = filters[name] || {};
  const set = (end, text) => {
    const chosen = { ...(filters[name] || {}), kind, [end]: text === "" ? null : kind === "number" ? Number(text) : text };
    if ((chosen.from ?? null) === null && (chosen.to ?? null) === null) delete filters[name];
    else filters[name] = chosen;
    typed();
  };
  const field = (end, hint, label) => make("input", { id: `filter-${name}-${end}`, type: kind === "number" ? "number" : "text", step: "any", value: mine[end] ?? "", placeholder: hint ?? "", "aria-label": `${name}, ${label}`, oninput: (event) => set(end, event.target.value.trim()) });
  return make("fieldset", { class: "facet" }, make("legend", {}, name.replaceAll("_", " ")), make("div", { class: "pair" }, field("from", least, "at least"), "to", field("to", most, "at most")));
}
