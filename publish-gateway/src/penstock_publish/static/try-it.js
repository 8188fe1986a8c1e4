// The live socket of a topic's page: what comes in is counted, drawn, and listed.
import { copyWith } from "./copying.js";
import { jsonNodes } from "./json-text.js";
import { drawLine } from "./line-chart.js";
import { liveTopic } from "./live-topic.js";
import { $, amount, count, element } from "./view.js";

const SECONDS_SHOWN = 60, VALUES_SHOWN = 120, LINES_MAX = 50, FLUSH_MS = 200, DRAW_MS = 1000, DRAW_CALM_MS = 5000;
const STATES = { connecting: "connecting…", live: "live", waiting: "reconnecting…", paused: "paused", closed: "not connected" };

export function startTryIt() {
  const topic = $("tryit").dataset.topic;
  const shown = { seconds: [], second: 0, total: 0, values: [], lines: [] };
  let live = null, state = "closed", format = "envelope";

  const on = {
    state(name) {
      state = name;
      $("try-state").dataset.state = name;
      $("try-state-text").textContent = STATES[name];
      const empty = $("try-events").querySelector(".empty");
      if (empty) empty.textContent = name === "live" ? "Nothing yet; the next event shows here." : "Connect to see events here.";
      $("try-connect").textContent = name === "closed" ? "Connect" : "Disconnect";
      $("try-connect").classList.toggle("primary", name === "closed");
      $("try-pause").disabled = !["live", "paused", "waiting"].includes(name);
      $("try-pause").textContent = name === "paused" ? "Go on" : "Pause";
      $("try-pause").setAttribute("aria-pressed", String(name === "paused"));
    },
    waiting(why) { say(why, "warn"); },
    event(event) {
      shown.second += 1;
      shown.total += 1;
      const columns = format === "raw" ? event : event.d;
      const value = columns?.[$("try-column").value];
      if (typeof value === "number") shown.values.push(value);
      shown.lines.push(event);
      if (shown.lines.length > LINES_MAX) shown.lines.shift();
    },
    opened(gone) {
      if (!gone) return say("");
      const loss = format === "raw" ? "Raw lines carry no cursor, so some may have come again." : "Resumed after the last event: nothing is missing.";
      say(`Back after ${gone.seconds.toFixed(1)} s. ${loss}`, "good");
    },
    gap({ n, from }) {
      say(`Gap: ${n === null ? "some events" : `${count(n)} events`} after ${from.slice(0, 12)}… are no longer kept and were left out.`, "warn");
    },
    deprecated({ sunset, successor }) {
      say(`This topic is deprecated${sunset ? `; it ends on ${sunset.slice(0, 10)}` : ""}${successor ? `. Use ${successor}` : ""}.`, "warn");
    },
    quota({ wait_ms, limit }) {
      say(`The plan lets nothing through for ${(wait_ms / 1000).toFixed(1)} s (${limit}); then it goes on without loss.`, "warn");
    },
    refused(text) {
      $("try-problem").textContent = text;
      $("try-problem").hidden = false;
      live = null;
    },
  };

  $("try-form").addEventListener("submit", (event) => {
    event.preventDefault();
    if (live && state !== "closed") { live.close(); live = null; return; }
    $("try-problem").hidden = true;
    say("");
    format = $("try-format").value;
    live = liveTopic(topic, { after: $("try-after").value.trim() || "latest", filter: $("try-filter").value.trim(), format }, on);
  });
  $("try-connect").disabled = false; // in the page it is: a click before this would send the form as a request
  $("try-pause").addEventListener("click", () => {
    if (state === "paused") { say("Going on after the last event."); return live.resume(); }
    live.pause();
    say("Paused. Going on continues after the last event, without loss.");
  });
  $("try-clear").addEventListener("click", () => {
    Object.assign(shown, { seconds: [], second: 0, total: 0, values: [], lines: [] });
    $("try-events").replaceChildren(element("li", { cls: "empty", text: "Nothing yet; the next event shows here." }));
    flush();
    draw();
  });
  $("try-column").addEventListener("change", () => { shown.values = []; draw(); });
  $("try-cursor").addEventListener("click", () => copyWith($("try-cursor"), () => live?.cursor || $("try-after").value));
  let lastTotal = 0;
  setInterval(flush, FLUSH_MS);
  setInterval(() => {
    shown.seconds.push(shown.second);
    shown.second = 0;
    if (shown.seconds.length > SECONDS_SHOWN) shown.seconds.shift();
    $("try-rate").textContent = amount(shown.seconds[shown.seconds.length - 1]);
  }, 1000);
  setInterval(draw, matchMedia("(prefers-reduced-motion: reduce)").matches ? DRAW_CALM_MS : DRAW_MS);
  addEventListener("resize", draw);
  draw();

  function flush() {
    if (shown.total !== lastTotal) {
      const list = $("try-events");
      const fresh = shown.lines.splice(0).map(line).reverse();
      if (fresh.length) {
        list.querySelector(".empty")?.remove();
        list.prepend(...fresh);
        while (list.children.length > LINES_MAX) list.lastElementChild.remove();
      }
      lastTotal = shown.total;
      $("try-count").textContent = count(shown.total);
      if (shown.values.length) $("try-value").textContent = amount(shown.values[shown.values.length - 1]);
    }
    const cursor = live?.cursor;
    $("try-cursor-box").hidden = !cursor || cursor === "latest" || cursor === "earliest";
    const short = cursor && cursor.length > 16 ? `${cursor.slice(0, 16)}…` : cursor || "";
    if (!["Copied", "Select and copy"].includes($("try-cursor").textContent)) $("try-cursor").textContent = short;
  }

  function draw() {
    shown.values = shown.values.slice(-VALUES_SHOWN);
    drawLine($("try-rate-chart"), shown.seconds, { slots: SECONDS_SHOWN, fromZero: true });
    drawLine($("try-column-chart"), shown.values, { slots: VALUES_SHOWN });
  }
}

function line(event) {
  const op = event.op ? element("i", { cls: "badge op", text: event.op }) : "";
  const time = element("time", { text: new Date().toLocaleTimeString([], { hour12: false }) });
  return element("li", {}, time, op, element("code", {}, ...jsonNodes(oneLine(event.d || event))));
}

const oneLine = (value) => JSON.stringify(value, null, 1).replace(/\n\s*/g, " "); // with spaces, so that it wraps

function say(text, kind = "") {
  $("try-notice").textContent = text;
  $("try-notice").className = `notice ${kind}`;
}
