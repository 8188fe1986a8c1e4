// Penstock's client for browsers and Node 20+; no dependencies. See docs/clients.md.
//   import { connect } from "https://penstock.example/client.js";
//   const penstock = connect("https://penstock.example", { token: () => fetchMyToken() });
//   for await (const event of penstock.subscribe("orders")) console.log(event.data);

/** @typedef {{topic: string, cursor: string, key: ?string, op: ?string, complete: ?boolean, data: Object}} Event
 *   `cursor`: the place after it. Of tables `op` is "+I", "+U" or "-D"; `complete`: its window has ended. */
/** @typedef {{gap: true, topic: string, from: string, to: string, events: ?number}} Gap Events that did not come. */
/** @typedef {{token?: string|(() => string|Promise<string>), clientId?: string, clientSecret?: string,
 *   ticket?: (topic: string) => Promise<string>, transport?: "websocket"|"sse", limits?: Partial<typeof LIMITS>,
 *   random?: () => number, sleep?: (ms: number, signal?: AbortSignal) => Promise<void>}} Options
 *   Credentials: `token`, or `clientId` and `clientSecret` (not in pages!), or `ticket`: your server gets one-time
 *   tickets for the page. None: the session of this server's own pages. */
/** @typedef {{after?: string, filter?: string, slow?: "gap"|"latest"|"close", signal?: AbortSignal,
 *   onEvent?: (event: Event) => void, onGap?: (gap: Gap) => void, onNotice?: (notice: Object) => void}} Asked
 *   `after`: a cursor, "earliest" or "latest". Without `onGap` gaps come between the events. */

/** Every bound by name. */
export const LIMITS = {
  attempts: 30, // tries of a request that is answered 429 or 503, or not at all
  firstConnects: 5, // tries until a first connection has come about
  connectsInARow: 1_000, // tries after a break that bring no connection
  refusals: 2, // requests that the browser keeps from us while the server answers others; then this origin may not
  backoffFirstMs: 500, backoffMaxMs: 15_000, // a pause is a random part of first * 2^n, at most max
  retryAfterMaxMs: 120_000, // longest pause that a server may ask for
  renewBeforeMs: 60_000, authReplyMs: 5_000,
  buffer: 10_000, // events that wait for the iterator; then the server is not read
  batchEvents: 1_000, batchChars: 4_000_000, pageRows: 1_000,
  inFlight: 64, messageChars: 300_000, // of a publisher: messages without a reply, and each of them (4 bytes a character)
};

/** `code` and `detail` as the server says; `retry`: the same may do later. */
export class PenstockError extends Error {
  constructor(code, detail, { status = 0, retry = false, retryMs = 0, errors = [] } = {}) {
    super(`${code}: ${detail}`);
    Object.assign(this, { name: "PenstockError", code, detail, status, retry, retryMs, errors });
  }
}

/** A client of the Penstock at `url`.
 * @param {string} url
 * @param {Options} [options] */
export function connect(url, options = {}) { return new Penstock(url, options); }

class Penstock {
  #token; #renewAt; #fetching; #dedupe = {}; #refused = 0;

  constructor(url, options) {
    this.url = String(url).replace(/\/+$/, "");
    this.options = { random: Math.random, sleep: pause, ...options };
    this.limits = { ...LIMITS, ...options.limits };
  }

  /** Follow a topic over breaks and restarts: with `onEvent`, or `for await (const event of ...)`.
   * @param {string} topic
   * @param {Asked} [asked] */
  subscribe(topic, asked = {}) { return new Subscription(this, topic, asked); }

  /** Send events in order; resolves when all are durable. Rejected ones do not throw: look at the result.
   * @param {string} stream
   * @param {Iterable<Object>} events
   * @returns {Promise<{accepted: number, duplicate: number, rejected: number, errors: Object[]}>} */
  async publish(stream, events) {
    const path = streamPath(stream), { batchEvents, batchChars } = this.limits, dedupe = await this.dedupeOf(stream);
    const total = { accepted: 0, duplicate: 0, rejected: 0, errors: [] };
    let first = 0;
    for (const lines of batchesOf(events, dedupe, batchEvents, batchChars)) {
      const said = await this.call("POST", `${path}/events`, {
        body: lines.join("\n"), type: "application/x-ndjson", accept: 422, repeatable: dedupe.length > 0 });
      if (!("accepted" in said)) throw problem(422, said);
      for (const name of ["accepted", "duplicate", "rejected"]) total[name] += said[name];
      for (const error of said.errors) total.errors.push({ ...error, index: error.index + first });
      first += lines.length;
    }
    return total;
  }

  /** Send all the time, over one WebSocket: many messages under way, what has no reply after a break sent again.
   * @param {string} stream */
  publisher(stream) { return new Publisher(this, stream); }

  /** The columns by which a stream knows an event again. */
  async dedupeOf(stream) { return this.#dedupe[stream] ??= (await this.call("GET", streamPath(stream))).dedupe; }

  /** What a topic still holds, from `after` to its end as it is now.
   * @param {string} topic
   * @param {{after?: string, filter?: string}} [asked]
   * @returns {AsyncGenerator<Event|Gap>} */
  async *history(topic, { after = "earliest", filter } = {}) {
    for (;;) {
      const page = await this.call("GET", pathOf(topic, { after, filter, limit: this.limits.pageRows }));
      const gaps = page.gaps ?? [];
      yield* gaps.map(gapOf);
      yield* page.events.map(eventOf);
      if (!page.events.length && !gaps.length && page.next === after) return;
      after = page.next;
    }
  }

  /** The decoded reply of a call with this client's credential; «later» is tried again. */
  async call(method, path, { body, type = "application/json", accept, repeatable = true, attempts = this.limits.attempts } = {}) {
    for (let failures = 1; ; failures++) {
      try {
        const reply = await this.fetch(path, { method, body, headers: body ? { "Content-Type": type } : {} });
        const said = await reply.json().catch(() => ({}));
        if (reply.ok || reply.status === accept) return said;
        throw problem(reply.status, said, reply.headers);
      } catch (thrown) {
        const error = this.known(thrown);
        const again = error.retry && (repeatable || nothingDone(error));
        if (!again || failures >= attempts || error.retryMs > this.limits.retryAfterMaxMs) throw error;
        await this.options.sleep(this.pauseMs(failures, error.retryMs));
      }
    }
  }

  /** `fetch` with the credential; a refused token is replaced once. */
  async fetch(path, { headers, ...rest }) {
    for (let tries = 1; ; tries++) {
      const token = await this.token();
      const sent = token ? { ...headers, Authorization: `Bearer ${token}` } : headers;
      const reply = await this.#ask(path, { credentials: "same-origin", cache: "no-store", headers: sent, ...rest });
      if (reply.status !== 401 || !token || tries > 1) return reply;
      this.forget(token);
    }
  }

  /** A token with life left; null where a session or tickets stand for it. */
  async token() {
    if (this.#token && Date.now() < this.#renewAt) return this.#token;
    return this.#fetching ??= this.#newToken().finally(() => { this.#fetching = null; });
  }

  /** Do not use this token again. */
  forget(token) { if (token === this.#token) this.#token = null; }

  // A page is not told whether the network failed or its origin is not allowed here; but this module is for
  // pages of every origin. Twice: a server that was just starting answers that question, too.
  async #ask(path, init) {
    try {
      const reply = await fetch(this.url + path, init);
      this.#refused = 0;
      return reply;
    } catch (error) {
      if (error.name === "AbortError" || !await this.#answersOthers() || ++this.#refused < this.limits.refusals) throw error;
      throw new PenstockError("origin_refused",
        `${this.url} answers, but not to pages of ${location.origin}: its publish.cors_origins must name that origin`);
    }
  }

  async #answersOthers() {
    if (typeof location === "undefined" || location.origin === new URL(this.url).origin) return false;
    const asked = fetch(`${this.url}/client.js`, { method: "HEAD", credentials: "omit", cache: "no-store" });
    return asked.then((reply) => reply.ok, () => false);
  }

  known(error) {
    if (error instanceof PenstockError) return error;
    return new PenstockError("not_ready", `no answer from ${this.url} (${error.message})`, { retry: true });
  }

  pauseMs(failures, askedMs) {
    const { backoffFirstMs, backoffMaxMs } = this.limits;
    return (askedMs || 0) + this.options.random() * Math.min(backoffMaxMs, backoffFirstMs * 2 ** (failures - 1));
  }

  async #newToken() {
    const { token, clientId, clientSecret } = this.options;
    this.#renewAt = Infinity;
    if (token) return this.#token = typeof token === "function" ? await token() : token;
    if (!clientId) return null;
    const reply = await this.#ask("/oauth/token", { method: "POST", body: new URLSearchParams({ grant_type: "client_credentials" }),
      headers: { Authorization: `Basic ${btoa(`${clientId}:${clientSecret}`)}` } });
    const said = await reply.json().catch(() => ({}));
    if (!said.access_token) throw problem(reply.status, { code: said.error, detail: said.error_description, ...said }, reply.headers);
    const livesMs = said.expires_in * 1000;
    this.#renewAt = Date.now() + livesMs - Math.min(this.limits.renewBeforeMs, livesMs / 2);
    return this.#token = said.access_token;
  }
}

class Subscription {
  #waiting = []; #queue = []; #room; #ended = false; #error; #stop = new AbortController(); #link;

  constructor(client, topic, asked) {
    Object.assign(this, { client, topic, asked, after: asked.after });
    if (asked.signal?.aborted) this.close();
    asked.signal?.addEventListener("abort", () => this.close(), { once: true });
    /** Settles when it has ended; rejects with what ended it. */
    this.closed = this.#run();
    this.closed.catch(() => {});
  }

  /** End it: no connection and no timer is left. */
  close() {
    this.#stop.abort();
    this.#link?.abort();
    this.#settle();
  }

  [Symbol.asyncIterator]() {
    const end = { value: undefined, done: true };
    return {
      next: async () => {
        if (this.#queue.length) {
          const value = this.#queue.shift();
          if (!this.#queue.length) this.#room?.();
          return { value, done: false };
        }
        if (this.#error) throw this.#error;
        return this.#ended ? end : new Promise((give, fail) => this.#waiting.push({ give, fail }));
      },
      return: async () => { this.close(); return end; },
    };
  }

  get #full() { return this.#queue.length >= this.client.limits.buffer; }

  async #run() {
    const { client, asked } = this, { limits, options } = client;
    const sse = options.transport ? options.transport === "sse" : typeof WebSocket === "undefined";
    for (let failures = 1, missed = 0, wasOpen = false; !this.#stop.signal.aborted; failures++) {
      const before = this.after;
      this.#link = new AbortController();
      const ended = { opened: false };
      try {
        await (sse ? this.#stream(ended) : this.#socket(ended));
      } catch (thrown) {
        const error = client.known(thrown);
        if (!error.retry && !(wasOpen && error.status >= 500) && !this.#stop.signal.aborted) { this.#settle(error); throw error; }
        Object.assign(ended, { error, retryMs: error.retryMs });
      }
      this.#link.abort();
      if (this.#stop.signal.aborted) break;
      wasOpen ||= ended.opened;
      missed = ended.opened ? 0 : missed + 1;
      if (this.after !== before) failures = 1;
      if (ended.retryMs > limits.retryAfterMaxMs || missed >= (wasOpen ? limits.connectsInARow : limits.firstConnects)) {
        const { name, retryMs } = ended;
        const error = ended.error || (name ? new PenstockError(name, `the server closed ${this.topic}`, { retry: true, retryMs })
          : client.known(new Error("no connection")));
        this.#settle(error);
        throw error;
      }
      this.#tell(asked.onNotice, { sys: ended.opened ? "closed" : "unreachable", code: ended.code, detail: ended.error?.detail, tries: missed });
      if (this.#full) await this.#emptied();
      else if (!ended.renewed) await options.sleep(client.pauseMs(failures, ended.retryMs), this.#stop.signal);
    }
    this.#settle();
  }

  async #socket(ended) {
    const { client, topic, asked, after } = this, { ticket: provide } = client.options, { filter, slow } = asked;
    const token = await client.token();
    const ticket = provide ? await provide(topic)
      : (await client.call("POST", "/v1/tickets", { body: JSON.stringify({ topic }), attempts: 1 })).ticket;
    const socket = new WebSocket(client.url.replace(/^http/, "ws") + pathOf(topic, { ticket, after, filter, slow }));
    this.#link.signal.addEventListener("abort", () => socket.close(1000));
    await new Promise((done) => {
      socket.onopen = () => { ended.opened = true; };
      socket.onmessage = ({ data }) => {
        if (ended.over ||= this.#full) return socket.close(1000); // all that follows comes again, once there is room
        for (const line of data.split("\n")) if (line) this.#take(JSON.parse(line), token, ended, socket);
      };
      socket.onclose = ({ code, reason }) => done(Object.assign(ended, { code }, closeOf(reason)));
    });
    if (ended.code === 4401) client.forget(token);
    if ([4400, 4403, 4404].includes(ended.code))
      throw new PenstockError(ended.name, `the server closed ${topic} with ${ended.code}`, { status: ended.code - 4000 });
    // A page is not told why a handshake was refused; the same as a page of history is.
    if (!ended.opened && !provide) await client.call("GET", pathOf(topic, { after, filter, limit: 1 }), { attempts: 1 });
  }

  async #stream(ended) {
    const { client, topic, after, asked: { filter, slow } } = this, token = await client.token();
    const reply = await client.fetch(pathOf(topic, { after, filter, slow }), {
      headers: { Accept: "text/event-stream" }, signal: this.#link.signal });
    if (!reply.ok) throw problem(reply.status, await reply.json().catch(() => ({})), reply.headers);
    ended.opened = true;
    const decoder = new TextDecoder();
    let rest = "";
    for await (const chunk of chunksOf(reply.body)) {
      const lines = (rest + decoder.decode(chunk, { stream: true })).split("\n");
      rest = lines.pop();
      for (const line of lines) {
        if (line.startsWith("data: ")) this.#take(JSON.parse(line.slice(6)), token, ended);
        else if (line.startsWith("retry: ")) ended.retryMs = Number(line.slice(7));
      }
      if (this.#full) await this.#emptied();
    }
  }

  #take(line, token, ended, socket) {
    const { onEvent, onGap, onNotice } = this.asked;
    if (line.sys === "gap") {
      this.after = line.to;
      this.#tell(onGap || ((gap) => this.#give(gap)), gapOf(line));
    } else if (line.sys) {
      this.after = line.c || this.after;
      if (line.sys === "expiring" && token) this.#renew(line.in * 500, token, ended, socket);
      this.#tell(onNotice, line);
    } else if (line.ok) {
      ended.answered = true;
    } else if (line.t) {
      this.after = line.c;
      this.#tell(onEvent || ((event) => this.#give(event)), eventOf(line));
    }
  }

  // What a callback throws is the page's to see, as with event listeners; the lines behind come nevertheless.
  #tell(told, what) {
    try { told?.(what); } catch (error) { queueMicrotask(() => { throw error; }); }
  }

  // A new token over the open socket; where nobody answers, over a new connection.
  async #renew(waitMs, token, ended, socket) {
    const { client } = this, link = this.#link, { sleep } = client.options;
    await sleep(waitMs, link.signal);
    client.forget(token);
    const auth = await client.token().catch(() => token);
    if (auth === token || link.signal.aborted) return;
    if (socket) {
      ended.answered = false;
      socket.send(JSON.stringify({ id: 1, auth }));
      await sleep(client.limits.authReplyMs, link.signal);
    }
    if (ended.answered) return;
    ended.renewed = true;
    link.abort();
  }

  #give(item) {
    if (this.#stop.signal.aborted) return;
    if (this.#waiting.length) this.#waiting.shift().give({ value: item, done: false });
    else this.#queue.push(item);
  }

  #emptied() { return new Promise((done) => { this.#room = done; }); }

  #settle(error) {
    if (this.#ended) return;
    this.#ended = true;
    this.#error = error;
    this.#room?.();
    for (const { give, fail } of this.#waiting.splice(0)) error ? fail(error) : give({ value: undefined, done: true });
  }
}

class Publisher {
  #unsent = []; #sent = []; #count = 0; #running; #socket; #restUntil = 0; #error; #woken = []; #stop = new AbortController();
  #total = { accepted: 0, duplicate: 0, rejected: 0, errors: [] }; #repeatable = false;

  constructor(client, stream) { Object.assign(this, { client, stream }); }

  /** One event or many; resolves when they are under way, which is not yet durable: see `flush`. */
  async send(events) {
    const { client, stream } = this, { inFlight, batchEvents, messageChars } = client.limits, dedupe = await client.dedupeOf(stream);
    for (const lines of batchesOf(Symbol.iterator in events ? events : [events], dedupe, batchEvents, messageChars)) {
      while (!this.#error && this.#unsent.length + this.#sent.length >= inFlight) await this.#change();
      if (this.#error) throw this.#error;
      this.#unsent.push({ first: this.#count, text: lines.join("\n") });
      this.#count += lines.length;
      this.#repeatable = dedupe.length > 0;
      this.#running ??= this.#run().catch((error) => this.#fail(client.known(error)));
      this.#pump();
    }
  }

  /** Resolves when everything is durable, or rejected, with the totals so far. */
  async flush() {
    while (!this.#error && this.#unsent.length + this.#sent.length) await this.#change();
    if (this.#error) throw this.#error;
    return this.#total;
  }

  /** Close at once; what has no reply may be stored or not. */
  close() { this.#stop.abort(); this.#socket?.close(1000); this.#fail(new PenstockError("not_ready", "this publisher is closed")); }

  async #run() {
    const { client, stream } = this, { limits, options } = client, repeatable = this.#repeatable;
    for (let failures = 1; !this.#stop.signal.aborted; failures++) {
      const token = await client.token(), ended = await this.#connection(token);
      if (ended.error) throw ended.error;
      if (this.#sent.length && !repeatable)
        throw new PenstockError("not_ready", `${stream} settles no repeated events, so nothing was sent again`);
      this.#unsent.unshift(...this.#sent.splice(0));
      this.#unsent.sort((one, other) => one.first - other.first);
      if (ended.code === 4401) client.forget(token);
      if ([4400, 4403, 4404].includes(ended.code))
        throw new PenstockError(ended.name, `the server closed ${stream} with ${ended.code}`, { status: ended.code - 4000 });
      if (ended.answered) failures = 1;
      if (failures >= limits.attempts || ended.retryMs > limits.retryAfterMaxMs) throw client.known(new Error("the socket broke"));
      // A page is not told why a handshake was refused; the same without an upgrade is, and 400 says that it may.
      if (!ended.opened) await client.call("GET", `${streamPath(stream)}/connect`, { attempts: 1 }).catch((error) => {
        if (!error.retry && error.status !== 400) throw error;
      });
      await options.sleep(client.pauseMs(failures, ended.retryMs), this.#stop.signal);
    }
  }

  #connection(token) {
    const { client } = this, ended = {}, base64url = (text) => btoa(text).replace(/\+/g, "-").replace(/\//g, "_").replace(/=+$/, "");
    const socket = this.#socket = new WebSocket(`${client.url.replace(/^http/, "ws")}${streamPath(this.stream)}/connect`,
      token ? ["penstock.v1", `penstock.bearer.${base64url(token)}`] : []);
    return new Promise((done) => {
      socket.onopen = () => { ended.opened = true; this.#pump(); };
      socket.onmessage = async ({ data }) => {
        const line = JSON.parse(data);
        if (line.n && !ended.error && (ended.error = this.#answered(line, ended))) socket.close(1000);
        if (line.sys !== "expiring" || !token) return;
        await client.options.sleep(line.in * 500, this.#stop.signal);
        client.forget(token);
        const auth = await client.token().catch(() => token);
        if (auth !== token && socket.readyState === 1) socket.send(JSON.stringify({ auth }));
      };
      socket.onclose = ({ code, reason }) => done(Object.assign(ended, { code }, closeOf(reason)));
      socket.onerror = () => ended.opened || done(ended); // Node 20 says no more than that of a refused handshake
    });
  }

  #pump() {
    if (this.#socket?.readyState !== 1 || Date.now() < this.#restUntil) return;
    for (let batch; (batch = this.#unsent.shift());) {
      this.#sent.push(batch);
      this.#socket.send(new TextEncoder().encode(batch.text)); // a text may be taken for a token
    }
  }

  #answered(line, ended) {
    const batch = this.#sent.shift(), error = problem(line.status, line);
    if ("accepted" in line) {
      ended.answered = true;
      for (const name of ["accepted", "duplicate", "rejected"]) this.#total[name] += line[name];
      for (const found of line.errors) this.#total.errors.push({ ...found, index: found.index + batch.first });
    } else if (error.retry && (this.#repeatable || nothingDone(error))) { // for now: again after a pause, in its place
      this.#unsent.push(batch);
      this.#unsent.sort((one, other) => one.first - other.first);
      const waitMs = this.client.pauseMs(1, line.retry_ms);
      this.#restUntil = Date.now() + waitMs;
      this.client.options.sleep(waitMs + 1, this.#stop.signal).then(() => this.#pump());
    } else return error;
    this.#wake();
  }

  #change() { return new Promise((done) => { this.#woken.push(done); }); }
  #wake() { for (const done of this.#woken.splice(0)) done(); }
  #fail(error) { this.#error ??= error; this.#wake(); }
}

// A log that cannot be used may have taken the events.
const nothingDone = ({ status, code }) => [429, 503].includes(status) && code !== "log_unavailable";
const streamPath = (stream) => `/v1/streams/${encodeURIComponent(stream)}`;
const closeOf = (reason) => { // the words of a proxy may be others
  try { const said = JSON.parse(reason) || {}; return { name: said.code, retryMs: said.retry_ms }; } catch { return {}; }
};
const eventOf = ({ t, c, k = null, op = null, complete = null, d }) => ({ topic: t, cursor: c, key: k, op, complete, data: d });
const gapOf = ({ t, from, to, n }) => ({ gap: true, topic: t, from, to, events: n });
const pathOf = (topic, asked) =>
  `/v1/topics/${encodeURIComponent(topic)}?${new URLSearchParams(Object.entries(asked).filter(([, value]) => value != null))}`;
const randomId = () => [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");

function* batchesOf(events, dedupe, eventsMax, charsMax) { // with an id of its own, an event that is sent again is stored once
  let lines = [], chars = 0;
  for (const event of events) {
    const line = JSON.stringify(String(dedupe) === "id" && event.id == null ? { ...event, id: randomId() } : event);
    if (lines.length && (lines.length >= eventsMax || chars + line.length > charsMax)) { yield lines; lines = []; chars = 0; }
    lines.push(line); chars += line.length;
  }
  if (lines.length) yield lines;
}

async function* chunksOf(body) { // not every browser can iterate over a body
  const reader = body.getReader();
  for (let read; !(read = await reader.read()).done;) yield read.value;
}

function pause(ms, signal) {
  return new Promise((done) => {
    const end = () => { clearTimeout(timer); signal?.removeEventListener("abort", end); done(); };
    const timer = setTimeout(end, signal?.aborted ? 0 : ms);
    signal?.addEventListener("abort", end);
  });
}

function problem(status, said, headers) {
  const later = headers?.get("Retry-After") || 0, ms = later * 1000 || Date.parse(later) - Date.now();
  return new PenstockError(said.code || "internal", said.detail || `HTTP ${status}`, {
    status, retry: [429, 502, 503, 504].includes(status), errors: said.errors || [], retryMs: ms > 0 ? ms : 0 });
}
