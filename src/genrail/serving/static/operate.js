// How the server does, for those who run it; asked again every few seconds while somebody looks.
import { ask, state, Trouble } from "./state.js";
import { count, make, show } from "./parts.js";

const EVERY = 5000; // milliseconds
const part = (id) => document.getElementById(id);
let before = null;

async function refresh() {
  try {
    const page = await ask("/v1/operation");
    part("trouble").hidden = true;
    draw(page);
  } catch (error) {
    part("trouble").hidden = false;
    show(part("trouble"), make("p", {}, error instanceof Trouble ? error.message : `The page made a mistake: ${error.message}`));
    if ([401, 403].includes(error.status) && !part("key").open) part("key").showModal();
    if (!(error instanceof Trouble)) console.error(error);
  }
}

function draw(page) {
  const asked = page.routes.reduce((sum, route) => sum + route.requests, 0);
  const rate = before ? ((asked - before.asked) * 1000) / (performance.now() - before.at) : null;
  before = { asked, at: performance.now() };
  part("engine").textContent = `${count(page.items, "item")} · version ${page.index_version} · model ${page.model_version}`;
  part("status").textContent = page.trouble || (page.disk === "ok" ? `Up ${lasted(page.up_seconds)}. The engine on disk is whole.` : page.disk);
  const figures = [
    ["requests a second", rate === null ? "…" : rate.toFixed(1)],
    ["waiting", page.waiting],
    ["requests", asked.toLocaleString("en")],
    ["found nothing", page.questions ? `${((100 * page.found_nothing) / page.questions).toFixed(1)} %` : "–"],
    ["refused", sum(page.refusals)],
    ["changes", sum(page.changes)],
    ["restarts of workers", page.worker_restarts],
  ];
  const routes = page.routes.filter((route) => !route.route.startsWith("/static/")); // the page's own files say nothing
  const refused = Object.entries(page.refusals).filter(([, times]) => times);
  show(
    part("view"),
    make("dl", { class: "figures" }, ...figures.map(([name, value]) => make("div", { class: "card" }, make("dt", {}, name), make("dd", {}, String(value))))),
    make("h2", {}, "Latency"),
    table("Latency by route", ["route", "requests", "failed", "p50", "p95", "p99"], routes.map((route) => [route.route, route.requests, route.failed, ...["p50", "p95", "p99"].map((name) => time(route[name]))])),
    refused.length ? make("h2", {}, "Refused") : null,
    refused.length ? table("Refused, by reason", ["reason", "times"], refused) : null,
    ...queries(page.queries),
    ...(page.events ? [make("h2", {}, "Events a day"), page.events.length ? table("Events a day", ["day", "events"], page.events) : make("p", {}, "None in the last two weeks.")] : []),
    make("h2", {}, "Versions"),
    make("p", {}, page.versions.length ? `On disk: ${page.versions.join(", ")}. Live: ${page.index_version} (published version, and the changes since).` : "This engine is in memory only."),
    make("p", { class: "small" }, "All this, for machines: ", make("code", {}, "/metrics"), " (Prometheus) and ", make("code", {}, "/v1/operation"), "."),
  );
}

function queries(found) {
  if (!found) return [make("h2", {}, "Queries"), make("p", {}, "Words of queries are not kept. Start the server with ", make("code", {}, "--log-queries"), " to see here what people ask, and what they ask in vain.")];
  const list = (title, rows) => [make("h2", {}, title), rows.length ? table(title, ["query", "times"], rows.map((row) => [row.query, row.times])) : make("p", {}, "None so far.")];
  return [...list("Queries that found nothing", found.in_vain), ...list("Most frequent queries", found.frequent)];
}

function table(name, head, rows) {
  const side = (place) => (place ? "number" : null);
  return make("div", { class: "scroll", tabindex: "0", role: "group", "aria-label": name }, make("table", {},
    make("thead", {}, make("tr", {}, ...head.map((word, place) => make("th", { scope: "col", class: side(place) }, word)))),
    make("tbody", {}, ...rows.map((row) => make("tr", {}, ...row.map((cell, place) => make("td", { class: side(place), dir: place ? null : "auto" }, typeof cell === "number" ? cell.toLocaleString("en") : cell)))))));
}

const sum = (counts) => Object.values(counts).reduce((all, each) => all + each, 0).toLocaleString("en");
const time = (seconds) => (seconds === null ? "–" : seconds < 1 ? `${seconds < 0.01 ? (seconds * 1000).toFixed(1) : Math.round(seconds * 1000)} ms` : `${seconds.toFixed(1)} s`);

function lasted(seconds) {
  const [days, hours, minutes] = [Math.floor(seconds / 86400), Math.floor(seconds / 3600) % 24, Math.floor(seconds / 60) % 60];
  return days ? `${count(days, "day")} ${hours} h` : hours ? `${hours} h ${minutes} min` : `${minutes} min`;
}

part("key-form").addEventListener("submit", () => { state.key = part("key-value").value.trim(); part("key-value").value = ""; refresh(); });
refresh();
setInterval(() => document.visibilityState === "visible" && !part("key").open && refresh(), EVERY);
