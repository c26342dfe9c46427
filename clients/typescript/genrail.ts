// Made by clients/typescript.py from the OpenAPI document of genrail 0.1.0; renew it by `make client`.

/** The server refused: `status`, `detail` (one sentence with the way out), `reason` (one word), when to ask again. */
export class GenrailError extends Error {
  readonly status: number;
  readonly reason: string;
  readonly requestId: string | null;
  readonly retryAfter: number | null;

  constructor(status: number, problem: Partial<Problem>, retryAfter: number | null) {
    super(problem.detail ?? `the server answered ${status}`);
    this.name = "GenrailError";
    this.status = status;
    this.reason = problem.reason ?? "unknown";
    this.requestId = problem.request_id ?? null;
    this.retryAfter = retryAfter;
  }
}

/** Settings of a client: a key, who asks (for a split between two engines), and what to send requests with. */
export interface Settings {
  key?: string;
  userId?: string;
  fetch?: typeof fetch;
}

/** Ends a request early. */
export interface Options {
  signal?: AbortSignal;
}

/** A place in the tree of identifiers. */
export type BranchesRequest = {
  prefix?: number[];
  /** A filter over attributes, written or as a dictionary of fields. */
  where?: string | Record<string, unknown> | null;
  /** Continuations that are listed, those with the most items first. */
  most?: number;
  /** Items that are named below each. */
  titles?: number;
};

/** What is live now; the change is on the disk. */
export type ChangeAnswer = {
  /** Items of the change. */
  changed: number;
  /** Items that can be found now. */
  items: number;
  index_version: string;
  model_version: string;
  took_ms: number;
  request_id: string;
};

/** How far a change is. */
export type ChangeState = {
  change: string;
  verb: string;
  /** waiting, running, done or failed. */
  status: string;
  /** stage, done, total: of a change that is running. */
  progress?: Record<string, unknown> | null;
  /** changed, items and versions: of a change that is done. */
  result?: Record<string, unknown> | null;
  /** status and detail: of a change that failed. */
  problem?: Record<string, unknown> | null;
  request_id: string;
};

/** That a user did something with an item. */
export type EventBody = {
  user_id: string;
  item_id: string;
  /** view, click, cart, purchase, ... */
  kind?: string;
  /** Seconds since 1970; by default now. */
  timestamp?: number | null;
};

/** What users did. */
export type EventsRequest = {
  events: EventBody[];
};

/** A search whose steps are wanted, and perhaps the fate of one item. */
export type ExplainRequest = {
  /** How many hits, up to the server's limit (1,000). */
  k?: number;
  /** A filter over attributes, written or as a dictionary of fields. */
  where?: string | Record<string, unknown> | null;
  /** Give up after so many milliseconds; the server's limit holds too. */
  timeout_ms?: number | null;
  /** Hits that come before: 10 with k 10 is page two. */
  offset?: number;
  /** Leave out what scores lower. */
  min_score?: number | null;
  /** Order the best hits by an attribute; -price: highest first. */
  sort?: string | null;
  /** What else counts, with its weight: an attribute (numbers, moments, true and false) or a filter. */
  boost?: Record<string, number>;
  /** Item ids that come first. */
  pin?: string[];
  /** Attributes to count among the best 100 hits; * for all. */
  facets?: string[];
  /** Attributes that hits carry; by default all. */
  fields?: string[] | null;
  /** Say which words of each hit the query asks for. */
  highlight?: boolean;
  /** Let words that name values of attributes move such items up. */
  soft_filters?: boolean;
  query?: string | null;
  /** Item ids, oldest first. */
  history?: string[];
  /** Let items of the history come out again. */
  include_seen?: boolean;
  /** Say how far this item came, and why. */
  item_id?: string | null;
  /** Beams of each step that are shown. */
  beams?: number;
  /** Continuations of each beam that are shown. */
  children?: number;
};

/** An answer with the steps that led to it. */
export type Explanation = {
  hits: HitBody[];
  /** True when fewer than k items are allowed, so that nothing more could come. */
  exhausted: boolean;
  /** Whatever was left out or could not be used. */
  warnings: string[];
  /** False where nothing is near the words: the hits are the least far ones. */
  fits: boolean;
  /** For each attribute: name, kind, and values with counts, or least and most. */
  facets?: Record<string, unknown>[] | null;
  /** The hits among which values were counted; with facets. */
  counted?: number | null;
  /** How words of the query were read: as values of attributes, or as synonyms. */
  reading?: Record<string, unknown>[] | null;
  took_ms: number;
  /** Published version, and the changes since: 3.17. */
  index_version: string;
  model_version: string;
  request_id: string;
  /** steps: beams with prefix, probability, removed_mass, children (token, probability, items, kept, spelling); kept and died prefixes. */
  trace: Record<string, unknown>;
  /** id, title, identifier, rank or null, and its story. */
  item?: Record<string, unknown> | null;
};

/** One item of an answer. */
export type HitBody = {
  id: string;
  title: string;
  /** What the order follows, higher first; 0 to 1 for a fused engine. */
  score: number;
  /** 1 for the first. */
  rank: number;
  /** The item's attributes. */
  metadata: Record<string, unknown>;
  /** In explanations. */
  log_probability?: number | null;
  /** In explanations: the tokens that the model wrote. */
  identifier?: number[] | null;
  /** In explanations: which lanes found the item, each with its rank and score there. */
  found_by?: Record<string, Record<string, number>> | null;
  /** Words of the item that the query asks for, as they stand there; with highlight. */
  matched?: string[] | null;
  /** In explanations: n-grams that the model wrote and that stand in the item's text. */
  ngrams?: NgramBody[] | null;
  /** In explanations: where they stand. */
  passage?: PassageBody | null;
  /** In explanations: words of the query that name a value of the item. */
  soft_filters?: string[] | null;
};

/** What the server holds. */
export type IndexState = {
  items: number;
  index_version: string;
  model_version: string;
  versions: number[];
  engine: Record<string, unknown>;
  /** "ok", or what is wrong with the engine on disk. */
  disk: string;
  request_id: string;
};

/** The results, in the order of the requests. */
export type InstantAnswer = {
  results: InstantResult[];
};

/** One search, with its parameters as fields or written into `params`. */
export type InstantQuery = {
  /** `NAME_price_asc` and `NAME_price_desc` sort by an attribute. */
  indexName?: string;
  /** Nothing lists the catalogue. */
  query?: string;
  page?: number;
  hitsPerPage?: number;
  /** Attributes to count; * for all. */
  facets?: string[] | string;
  maxValuesPerFacet?: number;
  facetFilters?: (string | string[])[] | string;
  numericFilters?: (string | string[])[] | string;
  filters?: string;
  attributesToRetrieve?: string[] | string;
  attributesToHighlight?: string[] | string;
  /** Values are escaped for HTML where it is a tag of HTML. */
  highlightPreTag?: string;
  highlightPostTag?: string;
  /** Further parameters, written as in an address. */
  params?: string | null;
  [name: string]: unknown;
};

/** Several searches. */
export type InstantRequest = {
  requests: InstantQuery[];
};

/** The hits of one search. */
export type InstantResult = {
  /** `objectID`, the item's attributes, `_highlightResult`. */
  hits: Record<string, unknown>[];
  /** Hits that pages lead to: the best 100 or more of a query. */
  nbHits: number;
  page: number;
  nbPages: number;
  hitsPerPage: number;
  facets: Record<string, Record<string, number>>;
  facets_stats: Record<string, Record<string, number>>;
  exhaustiveNbHits: boolean;
  exhaustiveFacetsCount: boolean;
  processingTimeMS: number;
  query: string;
  params: string;
  index: string;
};

/** One item of the catalogue. */
export type Item = {
  id: string;
  title: string;
  metadata: Record<string, unknown>;
  index_version: string;
  model_version: string;
  request_id: string;
};

/** Items to remove. */
export type ItemIds = {
  ids: string[];
};

/** Items to add or change: the catalogue's id and title columns, and attributes. */
export type Items = {
  items: Record<string, unknown>[];
};

/** How many events were kept, or erased. */
export type Kept = {
  events: number;
  request_id: string;
};

/** One answer or problem for each search, in order. */
export type MultiSearchAnswer = {
  results: Record<string, unknown>[];
  took_ms: number;
  request_id: string;
};

/** Several searches, answered together. */
export type MultiSearchRequest = {
  requests: SearchRequest[];
};

/** An n-gram that stands in the passage of an item. */
export type NgramBody = {
  text: string;
  /** What it adds to the item's score; 0 where it stands once more. */
  score: number;
  /** Its first character in the passage's text. */
  start: number;
  /** The character behind it. */
  end: number;
};

/** No more than the wish: an empty object. */
export type Nothing = {
};

/** The passage by which an item was found. */
export type PassageBody = {
  /** 1 for the first. */
  number: number;
  /** Passages of the item. */
  of: number;
  /** The passage, or the part of a long one around its best n-gram. */
  text: string;
};

/** RFC 9457: what went wrong, and the way out. */
export type Problem = {
  type?: string;
  title: string;
  status: number;
  detail: string;
  /** One word for programs, such as queue, rate, deadline, limit or invalid. */
  reason: string;
  request_id: string;
  errors?: Record<string, unknown>[] | null;
};

/** What somebody liked before. */
export type RecommendRequest = {
  /** How many hits, up to the server's limit (1,000). */
  k?: number;
  /** A filter over attributes, written or as a dictionary of fields. */
  where?: string | Record<string, unknown> | null;
  /** Give up after so many milliseconds; the server's limit holds too. */
  timeout_ms?: number | null;
  /** Hits that come before: 10 with k 10 is page two. */
  offset?: number;
  /** Leave out what scores lower. */
  min_score?: number | null;
  /** Order the best hits by an attribute; -price: highest first. */
  sort?: string | null;
  /** What else counts, with its weight: an attribute (numbers, moments, true and false) or a filter. */
  boost?: Record<string, number>;
  /** Item ids that come first. */
  pin?: string[];
  /** Attributes to count among the best 100 hits; * for all. */
  facets?: string[];
  /** Attributes that hits carry; by default all. */
  fields?: string[] | null;
  /** Say which words of each hit the query asks for. */
  highlight?: boolean;
  /** Let words that name values of attributes move such items up. */
  soft_filters?: boolean;
  /** Item ids, oldest first. */
  history?: string[];
  /** Whose kept events come before the history. */
  user_id?: string | null;
  include_seen?: boolean;
};

/** What Cohere, Jina and vLLM clients send; fields that only they know are ignored. */
export type RerankRequest = {
  query: string;
  documents: (string | Text)[];
  /** 0 or nothing for all. */
  top_n?: number | null;
  model?: string | null;
  return_documents?: boolean;
};

/** A version to go back to. */
export type RollbackRequest = {
  /** By default the one before the live one. */
  version?: number | null;
};

/** Hits, best first. */
export type SearchAnswer = {
  hits: HitBody[];
  /** True when fewer than k items are allowed, so that nothing more could come. */
  exhausted: boolean;
  /** Whatever was left out or could not be used. */
  warnings: string[];
  /** False where nothing is near the words: the hits are the least far ones. */
  fits: boolean;
  /** For each attribute: name, kind, and values with counts, or least and most. */
  facets?: Record<string, unknown>[] | null;
  /** The hits among which values were counted; with facets. */
  counted?: number | null;
  /** How words of the query were read: as values of attributes, or as synonyms. */
  reading?: Record<string, unknown>[] | null;
  took_ms: number;
  /** Published version, and the changes since: 3.17. */
  index_version: string;
  model_version: string;
  request_id: string;
};

/** Words, a past, or both. */
export type SearchRequest = {
  /** How many hits, up to the server's limit (1,000). */
  k?: number;
  /** A filter over attributes, written or as a dictionary of fields. */
  where?: string | Record<string, unknown> | null;
  /** Give up after so many milliseconds; the server's limit holds too. */
  timeout_ms?: number | null;
  /** Hits that come before: 10 with k 10 is page two. */
  offset?: number;
  /** Leave out what scores lower. */
  min_score?: number | null;
  /** Order the best hits by an attribute; -price: highest first. */
  sort?: string | null;
  /** What else counts, with its weight: an attribute (numbers, moments, true and false) or a filter. */
  boost?: Record<string, number>;
  /** Item ids that come first. */
  pin?: string[];
  /** Attributes to count among the best 100 hits; * for all. */
  facets?: string[];
  /** Attributes that hits carry; by default all. */
  fields?: string[] | null;
  /** Say which words of each hit the query asks for. */
  highlight?: boolean;
  /** Let words that name values of attributes move such items up. */
  soft_filters?: boolean;
  query?: string | null;
  /** Item ids, oldest first. */
  history?: string[];
  /** Let items of the history come out again. */
  include_seen?: boolean;
};

/** An item whose kind is wanted. */
export type SimilarRequest = {
  /** How many hits, up to the server's limit (1,000). */
  k?: number;
  /** A filter over attributes, written or as a dictionary of fields. */
  where?: string | Record<string, unknown> | null;
  /** Give up after so many milliseconds; the server's limit holds too. */
  timeout_ms?: number | null;
  /** Hits that come before: 10 with k 10 is page two. */
  offset?: number;
  /** Leave out what scores lower. */
  min_score?: number | null;
  /** Order the best hits by an attribute; -price: highest first. */
  sort?: string | null;
  /** What else counts, with its weight: an attribute (numbers, moments, true and false) or a filter. */
  boost?: Record<string, number>;
  /** Item ids that come first. */
  pin?: string[];
  /** Attributes to count among the best 100 hits; * for all. */
  facets?: string[];
  /** Attributes that hits carry; by default all. */
  fields?: string[] | null;
  /** Say which words of each hit the query asks for. */
  highlight?: boolean;
  /** Let words that name values of attributes move such items up. */
  soft_filters?: boolean;
  id: string;
};

/** What stands in a search field. */
export type SuggestRequest = {
  typed: string;
  /** How many texts. */
  k?: number;
};

/** A text that completes what is typed. */
export type SuggestionBody = {
  text: string;
  /** How many items hold it. */
  items: number;
  /** Of an item with this title; null for words and phrases. */
  item_id: string | null;
};

/** Texts that complete what is typed, those that most items hold first. */
export type Suggestions = {
  suggestions: SuggestionBody[];
  took_ms: number;
  index_version: string;
  model_version: string;
  request_id: string;
};

/** What text-embeddings-inference clients send. */
export type TeiRequest = {
  query: string;
  texts: string[];
  return_text?: boolean;
};

/** A document as some clients send it. */
export type Text = {
  text: string;
};

/** A user. */
export type UserRequest = {
  user_id: string;
};

/** Talks to one server. Every method throws `GenrailError` when the server refuses. */
export class Genrail {
  private readonly address: string;
  private readonly settings: Settings;

  constructor(address: string, settings: Settings = {}) {
    this.address = address.replace(/\/+$/, "");
    this.settings = settings;
  }

  private async send(method: string, path: string, body: unknown, options: Options): Promise<Response> {
    const headers: Record<string, string> = {};
    if (body !== undefined) headers["Content-Type"] = "application/json";
    if (this.settings.key) headers["Authorization"] = `Bearer ${this.settings.key}`;
    if (this.settings.userId) headers["X-User-Id"] = this.settings.userId;
    const send = this.settings.fetch ?? fetch;
    const init: RequestInit = { method, headers };
    if (body !== undefined) init.body = JSON.stringify(body);
    if (options.signal) init.signal = options.signal;
    const answer = await send(this.address + path, init);
    if (answer.ok) return answer;
    const problem = (await answer.json().catch(() => ({}))) as Partial<Problem>;
    const wait = answer.headers.get("Retry-After");
    throw new GenrailError(answer.status, problem, wait === null ? null : Number(wait));
  }

  /** Find the best items for words, a past, or both. */
  async search(body: SearchRequest, options: Options = {}): Promise<SearchAnswer> {
    const answer = await this.send("POST", `/v1/search`, body, options);
    return (await answer.json()) as SearchAnswer;
  }

  /** Recommend items to somebody with this past, given or kept. */
  async recommend(body: RecommendRequest, options: Options = {}): Promise<SearchAnswer> {
    const answer = await this.send("POST", `/v1/recommend`, body, options);
    return (await answer.json()) as SearchAnswer;
  }

  /** Recommend items to somebody who took this one. */
  async similar(body: SimilarRequest, options: Options = {}): Promise<SearchAnswer> {
    const answer = await this.send("POST", `/v1/similar`, body, options);
    return (await answer.json()) as SearchAnswer;
  }

  /** Search, and show the steps of the decode and how far one item came. */
  async explain(body: ExplainRequest, options: Options = {}): Promise<Explanation> {
    const answer = await this.send("POST", `/v1/explain`, body, options);
    return (await answer.json()) as Explanation;
  }

  /** Answer several searches together; one that cannot be answered gives its problem, the others their hits. */
  async multiSearch(body: MultiSearchRequest, options: Options = {}): Promise<MultiSearchAnswer> {
    const answer = await this.send("POST", `/v1/multi-search`, body, options);
    return (await answer.json()) as MultiSearchAnswer;
  }

  /** Complete what somebody types; the words travel in the body, so that no proxy logs them. */
  async suggest(body: SuggestRequest, options: Options = {}): Promise<Suggestions> {
    const answer = await this.send("POST", `/v1/suggest`, body, options);
    return (await answer.json()) as Suggestions;
  }

  /** Give one item. */
  async items(itemId: string, options: Options = {}): Promise<Item> {
    const answer = await this.send("GET", `/v1/items/${encodeURIComponent(itemId)}`, undefined, options);
    return (await answer.json()) as Item;
  }

  /** Answer several searches in the shape of Algolia's clients, for front ends made with InstantSearch. */
  async indexesQueries(body: InstantRequest, options: Options = {}): Promise<InstantAnswer> {
    const answer = await this.send("POST", `/1/indexes/*/queries`, body, options);
    return (await answer.json()) as InstantAnswer;
  }

  /** Keep what users did; it is on the disk before it is acknowledged. */
  async events(body: EventsRequest, options: Options = {}): Promise<Kept> {
    const answer = await this.send("POST", `/v1/events`, body, options);
    return (await answer.json()) as Kept;
  }

  /** Erase all that was kept of a user. */
  async eventsForget(body: UserRequest, options: Options = {}): Promise<Kept> {
    const answer = await this.send("POST", `/v1/events/forget`, body, options);
    return (await answer.json()) as Kept;
  }

  /** Give all that was kept of a user, oldest first. */
  async eventsOf(body: UserRequest, options: Options = {}): Promise<unknown> {
    const answer = await this.send("POST", `/v1/events/of`, body, options);
    return (await answer.json()) as unknown;
  }

  /** Give the items that most users did something with lately. */
  async trending(query: { k?: number; days?: number; where?: string | null } = {}, options: Options = {}): Promise<SearchAnswer> {
    const answer = await this.send("GET", `/v1/trending${written(query)}`, undefined, options);
    return (await answer.json()) as SearchAnswer;
  }

  /** Order texts by how well they fit a query; relevance_score is 0 to 1. */
  async rerank(body: RerankRequest, options: Options = {}): Promise<unknown> {
    const answer = await this.send("POST", `/v2/rerank`, body, options);
    return (await answer.json()) as unknown;
  }

  /** Order texts, in the shape of text-embeddings-inference: a bare list. */
  async teiRerank(body: TeiRequest, options: Options = {}): Promise<unknown> {
    const answer = await this.send("POST", `/tei/rerank`, body, options);
    return (await answer.json()) as unknown;
  }

  /** Tell what is live, which versions there are, and whether the engine on disk is whole. */
  async index(options: Options = {}): Promise<IndexState> {
    const answer = await this.send("GET", `/v1/index`, undefined, options);
    return (await answer.json()) as IndexState;
  }

  /** Tell how far a change is that was answered 202, and what came of it. */
  async indexChanges(change: string, options: Options = {}): Promise<ChangeState> {
    const answer = await this.send("GET", `/v1/index/changes/${encodeURIComponent(change)}`, undefined, options);
    return (await answer.json()) as ChangeState;
  }

  /** Add items; they are on the disk and can be found when this returns. */
  async indexAdd(body: Items, options: Options = {}): Promise<ChangeAnswer | ChangeState> {
    const answer = await this.send("POST", `/v1/index/add`, body, options);
    return (await answer.json()) as ChangeAnswer | ChangeState;
  }

  /** Change titles and attributes; what an item does not give keeps its value. */
  async indexUpdate(body: Items, options: Options = {}): Promise<ChangeAnswer | ChangeState> {
    const answer = await this.send("POST", `/v1/index/update`, body, options);
    return (await answer.json()) as ChangeAnswer | ChangeState;
  }

  /** Remove items; no request that starts after this returned can find them. */
  async indexRemove(body: ItemIds, options: Options = {}): Promise<ChangeAnswer | ChangeState> {
    const answer = await this.send("POST", `/v1/index/remove`, body, options);
    return (await answer.json()) as ChangeAnswer | ChangeState;
  }

  /** Merge all changes into the index and publish the engine as the next version of its folder. */
  async indexPublish(body: Nothing, options: Options = {}): Promise<ChangeAnswer | ChangeState> {
    const answer = await this.send("POST", `/v1/index/publish`, body, options);
    return (await answer.json()) as ChangeAnswer | ChangeState;
  }

  /** Go back to an earlier version, with the changes logged on it. */
  async indexRollback(body: RollbackRequest, options: Options = {}): Promise<ChangeAnswer | ChangeState> {
    const answer = await this.send("POST", `/v1/index/rollback`, body, options);
    return (await answer.json()) as ChangeAnswer | ChangeState;
  }

  /** Take over what another process published or logged in the folder: a new catalogue, identifiers or model. */
  async indexReload(body: Nothing, options: Options = {}): Promise<ChangeAnswer | ChangeState> {
    const answer = await this.send("POST", `/v1/index/reload`, body, options);
    return (await answer.json()) as ChangeAnswer | ChangeState;
  }

  /** Tell what can be asked: attributes to filter by, examples, and whether a second engine stands beside. */
  async about(options: Options = {}): Promise<unknown> {
    const answer = await this.send("GET", `/v1/about`, undefined, options);
    return (await answer.json()) as unknown;
  }

  /** List what can follow a prefix of identifiers, and items below each continuation. */
  async branches(body: BranchesRequest, options: Options = {}): Promise<unknown> {
    const answer = await this.send("POST", `/v1/branches`, body, options);
    return (await answer.json()) as unknown;
  }

  /** Tell that the process answers. */
  async livez(options: Options = {}): Promise<string> {
    const answer = await this.send("GET", `/livez`, undefined, options);
    return await answer.text();
  }

  /** Tell whether questions are answered; with a key, also how the engine on disk is. */
  async readyz(options: Options = {}): Promise<unknown> {
    const answer = await this.send("GET", `/readyz`, undefined, options);
    return (await answer.json()) as unknown;
  }

  /** Tell what runs and what is live. */
  async version(options: Options = {}): Promise<unknown> {
    const answer = await this.send("GET", `/version`, undefined, options);
    return (await answer.json()) as unknown;
  }

  /** Give everything that is counted, as Prometheus reads it. */
  async metrics(options: Options = {}): Promise<string> {
    const answer = await this.send("GET", `/metrics`, undefined, options);
    return await answer.text();
  }

  /** Tell load, latencies by route, refusals, versions, and the queries that found nothing. Words of queries are kept, in memory alone, where the server was started with ``--log-queries``. */
  async operation(options: Options = {}): Promise<unknown> {
    const answer = await this.send("GET", `/v1/operation`, undefined, options);
    return (await answer.json()) as unknown;
  }
}

function written(query: Record<string, unknown>): string {
  const pairs = Object.entries(query).filter(([, value]) => value !== undefined && value !== null);
  return pairs.length ? "?" + new URLSearchParams(pairs.map(([name, value]) => [name, String(value)])) : "";
}
