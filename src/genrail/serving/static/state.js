// What was asked, and the one place that talks to the server.
import { expression } from "./filters.js";

export const state = { query: "", where: "", filters: {}, picks: [], plain: false, view: "search", about: null, key: "" };

export class Trouble extends Error {
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

export async function ask(path, body, { base = "", signal } = {}) {
  const headers = {};
  if (state.key) headers["Authorization"] = `Bearer ${state.key}`;
  if (body !== undefined) headers["Content-Type"] = "application/json";
  const given = { method: body === undefined ? "GET" : "POST", headers, signal };
  if (body !== undefined) given.body = JSON.stringify(body);
  let answer;
  try {
    answer = await fetch(base + path, given);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Trouble(navigator.onLine ? "The server cannot be reached; is it running?" : "This device is offline.", 0);
  }
  const page = await answer.json().catch((error) => { if (error.name === "AbortError") throw error; return {}; });
  if (!answer.ok) throw new Trouble(page.detail || `The server answered ${answer.status}.`, answer.status);
  return page;
}

// The body of a question: words, picked items, or both; `without` leaves the filter of one attribute out.
export function question({ words = true, past = false, without = null } = {}) {
  const body = {};
  if (words && state.query.trim()) body.query = state.query.trim();
  if (past && state.picks.length) body.history = state.picks.map((pick) => pick.id);
  const where = expression(state.filters, state.where, without);
  if (where) body.where = where;
  if (state.plain) body.soft_filters = false;
  return body;
}

export const isEmpty = (body) => body.query === undefined && body.history === undefined;

// `kept`: a step that the back button leads back to; otherwise, while somebody types, the same step.
export function writeAddress(kept) {
  const words = new URLSearchParams();
  if (state.query) words.set("q", state.query);
  if (state.where) words.set("where", state.where);
  if (Object.keys(state.filters).length) words.set("filters", JSON.stringify(state.filters));
  if (state.picks.length) words.set("picks", JSON.stringify(state.picks.map((pick) => [pick.id, pick.title])));
  if (state.plain) words.set("plain", "1");
  const tail = words.toString(), address = `#${state.view}${tail ? `?${tail}` : ""}`;
  if (address === location.hash) return;
  if (kept) history.pushState(null, "", address);
  else history.replaceState(null, "", address);
  document.title = [state.query, state.about?.name || "genrail"].filter(Boolean).join(" – ");
}

// The address after # never leaves the browser: a link shows the same page without telling any server the words.
export function readAddress(views) {
  const [view, tail = ""] = location.hash.slice(1).split(/\?(.*)/s);
  const words = new URLSearchParams(tail);
  state.view = views.includes(view) ? view : "search";
  state.query = words.get("q") || "";
  state.where = words.get("where") || "";
  state.filters = read(words.get("filters"), {});
  if (typeof state.filters !== "object" || Array.isArray(state.filters) || !state.filters) state.filters = {};
  state.plain = words.get("plain") === "1";
  const picks = read(words.get("picks"), []);
  state.picks = Array.isArray(picks) ? picks.filter(Array.isArray).map(([id, title]) => ({ id: String(id), title: String(title) })) : [];
}

function read(text, otherwise) {
  try {
    return text === null ? otherwise : JSON.parse(text);
  } catch {
    return otherwise;
  }
}
