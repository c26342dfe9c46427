// Two engines, the same question.
import { ask, isEmpty, question, state } from "./state.js";
import { card, told } from "./hits.js";
import { count, make, show } from "./parts.js";

const K = 12; // answers of each

export async function besideView(view, page, signal) {
  const base = state.about?.beside;
  if (!base) {
    show(view, make("p", {}, "This server has one engine. Start it with a second one to see their answers side by side:"), make("p", {}, make("code", {}, "genrail serve shop.genrail --beside other.genrail")));
    return page.tell("");
  }
  const body = question({ past: state.picks.length > 0 });
  if (isEmpty(body)) {
    show(view, make("p", {}, "Type above, or pick items: both engines get the same question."));
    return page.tell("");
  }
  const both = [["", state.about.name], [base, null]].map(async ([at, name]) => {
    const called = name ?? (await ask("/v1/about", undefined, { base: at, signal })).name;
    const began = { ...body, k: K, highlight: true };
    return [called, await ask("/v1/search", began, { base: at, signal }).catch((error) => error)];
  });
  const answers = await Promise.all(both);
  for (const [, answer] of answers) if (answer.name === "AbortError") throw answer;
  const ranks = answers.map(([, answer]) => new Map((answer.hits || []).map((hit) => [hit.id, hit.rank])));
  const columns = answers.map(([name, answer], side) => {
    if (answer instanceof Error) return make("section", {}, make("h2", {}, name), make("p", { role: "alert" }, answer.message));
    const cards = answer.hits.map((hit) => {
      const there = ranks[1 - side].get(hit.id);
      return card(hit, page, { compact: true, shared: there !== undefined, note: there === undefined ? "only here" : `there ${there}.` });
    });
    return make("section", { "aria-label": name }, make("h2", {}, name), make("p", { class: "small" }, told(answer)), make("ol", { class: "hits" }, ...cards));
  });
  show(view, make("div", { class: "beside" }, ...columns));
  const shared = [...ranks[0].keys()].filter((id) => ranks[1].has(id)).length;
  page.tell(`${count(shared, "item")} in both lists of ${K}`);
}
