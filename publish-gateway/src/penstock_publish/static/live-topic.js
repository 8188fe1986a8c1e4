// A live topic that outlives breaks: it opens with a one-time ticket, keeps the cursor, and goes on from there.
import { call, get } from "./api.js";
import { closeWords, inWords } from "./close-words.js";

const RETRY_MIN_MS = 500, RETRY_MAX_MS = 8000;

// `on`: state(name), event(event), opened({ seconds } | null), gap(notice), deprecated(notice), quota(notice),
// waiting(why) (it comes back by itself), refused(why).
// States: connecting, live, waiting (for the next try), paused, closed.
export function liveTopic(topic, { after, filter, format }, on) {
  const path = `/v1/topics/${encodeURIComponent(topic)}`;
  let socket = null, timer = 0, wait = RETRY_MIN_MS, brokenAt = null, turn = 0;
  let cursor = after, limit = "", isOpen = false;

  function query(more) {
    const made = new URLSearchParams({ after: cursor, format, ...more });
    if (filter) made.set("filter", filter);
    return made;
  }

  async function begin() {
    on.state("connecting");
    const mine = ++turn;
    if (await asked(mine)) open();
  }

  // A browser cannot see why an upgrade was refused; a page of history says it in words. False if that was the end.
  async function asked(mine) {
    try {
      await get(`${path}?${query({ limit: 1 })}`);
    } catch (error) {
      if (mine === turn) failed(error);
      return false;
    }
    return mine === turn;
  }

  function failed(error) {
    if (error.status && error.status < 500 && error.status !== 429) return refuse(error.message);
    const goesOn = error.retryMs ? ` It goes on ${inWords(error.retryMs)}.` : " Trying again.";
    again(error.retryMs, error.status ? `${error.message}.${goesOn}` : `The server does not answer.${goesOn}`);
  }

  async function open() {
    const mine = ++turn;
    on.state("connecting");
    isOpen = false;
    try {
      const { answer } = await call("POST", "/v1/tickets", { body: JSON.stringify({ topic }) });
      if (mine !== turn) return;
      const url = new URL(`${path}?${query({ ticket: answer.ticket })}`, location.href);
      url.protocol = url.protocol.replace("http", "ws");
      socket = new WebSocket(url);
    } catch (error) {
      if (mine === turn) failed(error);
      return;
    }
    socket.onmessage = ({ data }) => { if (mine === turn) for (const line of data.split("\n")) if (line) take(JSON.parse(line)); };
    socket.onclose = (event) => { if (mine === turn) closed(event, mine); };
  }

  function take(line) {
    if (line.sys === undefined) {
      if (format === "envelope" && line.c) cursor = line.c;
      return on.event(line);
    }
    if (line.sys === "open") {
      wait = RETRY_MIN_MS;
      isOpen = true;
      limit = "";
      on.state("live");
      on.opened(brokenAt === null ? null : { seconds: (performance.now() - brokenAt) / 1000 });
      brokenAt = null;
    }
    if (line.sys === "gap") on.gap(line);
    if (line.sys === "deprecated") on.deprecated(line);
    if (line.sys === "quota") { limit = line.limit; on.quota(line); }
    cursor = line.c || line.to || cursor;
  }

  async function closed({ code, reason }, mine) {
    let why = {};
    try { why = JSON.parse(reason || "{}"); } catch { /* a proxy's words */ }
    if (why.after && format === "raw") cursor = why.after; // raw lines carry none of their own
    if (brokenAt === null) brokenAt = performance.now();
    if (!isOpen && code === 1006 && !await asked(mine)) return;
    const end = closeWords({ code, name: why.code, limit, retryMs: why.retry_ms });
    if (end.again) again(why.retry_ms, end.text); else refuse(end.text);
  }

  function again(hint, why) {
    on.state("waiting");
    on.waiting(why);
    timer = setTimeout(open, hint || wait * (0.7 + 0.6 * Math.random()));
    wait = Math.min(wait * 2, RETRY_MAX_MS);
  }

  function leave(state) {
    turn += 1;
    clearTimeout(timer);
    socket?.close(1000);
    socket = null;
    brokenAt = null;
    on.state(state);
  }

  function refuse(text) {
    leave("closed");
    on.refused(text);
  }

  begin();
  return { get cursor() { return cursor; }, pause: () => leave("paused"), resume: open, close: () => leave("closed") };
}
