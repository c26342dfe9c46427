// Small parts of the page. Whatever comes from the catalogue is set as text, never as markup.

export function make(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (key === "onclick" || key === "onchange" || key === "oninput") element.addEventListener(key.slice(2), value);
    else element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

export function draw(name, attributes = {}, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

export function show(element, ...children) {
  element.replaceChildren(...children.filter((child) => child !== null && child !== undefined));
}

export function meter(share, label, kind = "") {
  const inner = make("span");
  inner.style.width = `${Math.max(0, Math.min(1, share)) * 100}%`;
  return make("span", { class: `meter ${kind}`, role: "img", "aria-label": label }, inner);
}

export function percent(share) {
  if (share === 0) return "0 %";
  if (share >= 0.9995) return "100 %";
  if (share >= 0.0995) return `${(share * 100).toFixed(0)} %`;
  if (share >= 0.0005) return `${(share * 100).toPrecision(2)} %`;
  return "< 0.1 %";
}

export const count = (number, one, many = `${one}s`) => `${number.toLocaleString("en")} ${number === 1 ? one : many}`;

export const codes = (tokens) => (tokens.length ? tokens.join(" · ") : "start");

export function written(value) {
  if (value === true) return "yes";
  if (value === false) return "no";
  if (Array.isArray(value)) return value.map(written).join(", ");
  if (typeof value === "object" && value !== null) return JSON.stringify(value);
  return String(value);
}

// A prefix of codes is spelled by an item below it; where it is the only one, it is that item.
export const plain = (spelling) => spelling.replace(/^e\.g\. /, "");

export const NARROW = matchMedia("(max-width: 40rem)").matches;

export const ordinal = (number) => `${number}${["th", "st", "nd", "rd"][(number % 100 > 10 && number % 100 < 14) || number % 10 > 3 ? 0 : number % 10]}`;
