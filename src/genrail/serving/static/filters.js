// Filters made from what the engine says about its attributes; they become one expression that anybody can read.
import { make } from "./parts.js";

const MOST = 12; // attributes that get a control; any other can be named in the text field
const KEYWORDS = /^(and|or|not|in|like|ilike|between|is|null|true|false)$/i;

const named = (name) => (/^[A-Za-z_]\w*$/.test(name) && !KEYWORDS.test(name) ? name : "`" + name.replaceAll("`", "``") + "`");
const quoted = (text) => `'${text.replaceAll("'", "''")}'`;

export function buildFilters(field, attributes, given, changed) {
  const parts = [];
  const usable = attributes.filter((each) => ["number", "flag", "words"].includes(each.kind) && !(each.kind === "words" && !each.values));
  usable.slice(0, MOST).forEach((attribute, place) => {
    const { control, part } = CONTROLS[attribute.kind](attribute, `filter-${place}`, () => changed(expression()));
    parts.push(part);
    field.append(control);
  });
  const free = make("input", { id: "filter-text", value: given, placeholder: "price < 100 AND in_stock", spellcheck: "false", oninput: () => changed(expression()) });
  field.append(make("div", { class: "wide" }, make("label", { for: "filter-text" }, "As an expression, besides the above"), free));
  function expression() {
    const found = parts.map((part) => part()).filter(Boolean);
    const text = free.value.trim();
    if (text) found.push(found.length ? `(${text})` : text);
    return found.join(" AND ");
  }
}

const CONTROLS = {
  number({ name, least, most }, id, changed) {
    const from = make("input", { id, type: "number", step: "any", placeholder: least, "aria-label": `${name}, at least`, oninput: changed });
    const to = make("input", { type: "number", step: "any", placeholder: most, "aria-label": `${name}, at most`, oninput: changed });
    const part = () => {
      const found = [];
      if (from.value !== "") found.push(`${named(name)} >= ${Number(from.value)}`);
      if (to.value !== "") found.push(`${named(name)} <= ${Number(to.value)}`);
      return found.join(" AND ");
    };
    return { control: make("div", {}, make("label", { for: id }, `${name}, from and to`), make("div", { class: "pair" }, from, to)), part };
  },
  flag({ name }, id, changed) {
    const chosen = make("select", { id, onchange: changed }, ...["any", "yes", "no"].map((word) => make("option", { value: word }, word)));
    const part = () => ({ any: "", yes: named(name), no: `${named(name)} = false` })[chosen.value];
    return { control: make("div", {}, make("label", { for: id }, name), chosen), part };
  },
  words({ name, values, counts }, id, changed) {
    const options = values.map((value, place) => make("option", { value }, `${value} (${counts[place]})`));
    const chosen = make("select", { id, onchange: changed }, make("option", { value: "" }, "any"), ...options);
    const part = () => (chosen.selectedIndex === 0 ? "" : `${named(name)} = ${quoted(chosen.value)}`);
    return { control: make("div", {}, make("label", { for: id }, name), chosen), part };
  },
};
