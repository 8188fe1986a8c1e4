// Calls to this server. The session cookie authorises them (HttpOnly: no script sees a token); sockets open with a
// one-time ticket, so no credential is ever part of a URL that lives longer than one handshake.

const RECONNECT_MIN_MS = 500;
const RECONNECT_MAX_MS = 8000;

export class Problem extends Error {
  constructor(status, body, retryAfter) {
    super(body.detail || `HTTP ${status}`);
    this.retryMs = (Number(retryAfter) || 0) * 1000;
    this.status = status;
    this.code = body.code || "internal";
    this.errors = body.errors || [];
  }
}

export async function call(method, path, { body, type = "application/json", headers = {} } = {}) {
  const send = () => fetch(path, {
    method, credentials: "same-origin",
    headers: body === undefined ? headers : { "Content-Type": type, ...headers },
    body,
  });
  let reply = await send();
  if (reply.status === 401) { // the session ended (an hour, or a restart with a new key): the page itself renews it
    await fetch("/", { credentials: "same-origin" });
    reply = await send();
  }
  const text = await reply.text();
  let answer = text;
  if ((reply.headers.get("Content-Type") || "").includes("json")) answer = JSON.parse(text || "null");
  if (!reply.ok) throw new Problem(reply.status, typeof answer === "object" && answer ? answer : { detail: text }, reply.headers.get("Retry-After"));
  return { answer, etag: reply.headers.get("ETag") };
}

export const get = async (path) => (await call("GET", path)).answer;

// Follow a topic: onEvent for each envelope, onState("open" | "closed"). Resumes from the last cursor after a break.
export function follow(topic, { after = "latest", filter } = {}, onEvent, onState = () => {}) {
  let socket = null, stopped = false, wait = RECONNECT_MIN_MS;
  async function open() {
    try {
      const { answer } = await call("POST", "/v1/tickets", { body: JSON.stringify({ topic }) });
      if (stopped) return;
      const query = new URLSearchParams({ ticket: answer.ticket, after });
      if (filter) query.set("filter", filter);
      const url = new URL(`/v1/topics/${encodeURIComponent(topic)}?${query}`, location.href);
      url.protocol = url.protocol.replace("http", "ws");
      socket = new WebSocket(url);
    } catch (error) {
      return again();
    }
    socket.onopen = () => { wait = RECONNECT_MIN_MS; onState("open"); };
    socket.onmessage = (message) => {
      for (const line of message.data.split("\n")) {
        if (!line) continue;
        const event = JSON.parse(line);
        if (event.c) after = event.c;
        onEvent(event);
      }
    };
    socket.onclose = () => { onState("closed"); again(); };
  }
  function again() {
    if (stopped) return;
    setTimeout(open, wait * (0.7 + 0.6 * Math.random()));
    wait = Math.min(wait * 2, RECONNECT_MAX_MS);
  }
  open();
  return () => { stopped = true; if (socket) socket.close(1000); };
}

// Repeat an asynchronous task for ever, never two at a time; errors wait for the next turn.
export function every(ms, task) {
  (async function turn() {
    try { await task(); } catch (error) { console.debug(error.message); }
    setTimeout(turn, ms);
  })();
}
