// What was asked, and the one place that talks to the server.

export const state = { query: "", where: "", picks: [], view: "search", count: 12, about: null, key: "" };

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
    throw new Trouble("The server cannot be reached; is it running?", 0);
  }
  const page = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Trouble(page.detail || `The server answered ${answer.status}.`, answer.status);
  return page;
}

// The body of a question: words, picked items, or both.
export function question({ words = true, past = false } = {}) {
  const body = {};
  if (words && state.query.trim()) body.query = state.query.trim();
  if (past && state.picks.length) body.history = state.picks.map((pick) => pick.id);
  if (state.where) body.where = state.where;
  return body;
}

export const isEmpty = (body) => body.query === undefined && body.history === undefined;

export function writeAddress() {
  const words = new URLSearchParams();
  if (state.query) words.set("q", state.query);
  if (state.where) words.set("where", state.where);
  if (state.picks.length) words.set("picks", JSON.stringify(state.picks.map((pick) => [pick.id, pick.title])));
  const tail = words.toString();
  history.replaceState(null, "", `#${state.view}${tail ? `?${tail}` : ""}`);
}

// The address after # never leaves the browser: a link shows the same page without telling any server the words.
export function readAddress(views) {
  const [view, tail = ""] = location.hash.slice(1).split(/\?(.*)/s);
  const words = new URLSearchParams(tail);
  if (views.includes(view)) state.view = view;
  state.query = words.get("q") || "";
  state.where = words.get("where") || "";
  try {
    const picks = JSON.parse(words.get("picks") || "[]");
    state.picks = picks.map(([id, title]) => ({ id: String(id), title: String(title) }));
  } catch {
    state.picks = [];
  }
}
