// The board of the examples: states with arriving lots, alerts as they fire, quakes on a map, reports from the field.
import { call, every, follow, get } from "./api.js";
import { $, amount, clock, count, element, prepend, shape } from "./view.js";

const ALERTS_MAX = 30, REPORTS_MAX = 12, QUAKES_MAX = 400, MAP_REFRESH_MS = 10_000;
const VEHICLES = ["KA-01-4711", "MH-12-0815", "UP-32-2204", "PB-10-1907", "WB-19-3141"];
const DRIVERS = ["ravi", "meena", "suresh", "latha", "joseph"];

export function startBoard(topics) {
  const has = (name) => topics.has(name);
  if (!["clean_lots", "daily_arrivals", "quake_alerts", "open_reports"].some(has)) return;
  $("board").hidden = false;
  if (has("daily_arrivals")) startMarkets(has("clean_lots"));
  if (has("price_alerts")) follow("price_alerts", { after: "latest" }, onPriceAlert);
  if (has("quake_alerts")) follow("quake_alerts", { after: "latest" }, onQuakeAlert);
  if (has("latest_quakes")) startMap();
  if (has("open_reports")) startReports();
}

function startMarkets(withLots) {
  $("markets").hidden = false;
  const states = new Map(); // state -> { tile, rows: key -> row of today }
  const tileOf = (name) => {
    if (!states.has(name)) {
      const tile = element("div", { cls: "tile" }, element("b", { text: name }), element("span", { cls: "big" }), element("span", { cls: "last" }));
      states.set(name, { tile, rows: new Map() });
      const sorted = [...states.keys()].sort();
      $("tiles").insertBefore(tile, $("tiles").children[sorted.indexOf(name)] || null);
    }
    return states.get(name);
  };
  follow("daily_arrivals", { after: "earliest" }, ({ d, op }) => {
    if (!d || op === "-D") return;
    const state = tileOf(d.state);
    const newest = [...state.rows.values()].reduce((most, row) => (row.day_start > most ? row.day_start : most), "");
    if (d.day_start < newest) return;
    if (d.day_start > newest) state.rows.clear();
    state.rows.set(d.commodity, d);
    const rows = [...state.rows.values()];
    const tonnes = rows.reduce((sum, row) => sum + (row.tonnes || 0), 0);
    state.tile.children[1].replaceChildren(`${amount(tonnes)} t `, element("small", { text: `in ${count(rows.reduce((sum, row) => sum + row.lots, 0))} lots` }));
  });
  if (!withLots) return;
  let seen = 0;
  follow("clean_lots", { after: "latest" }, ({ d }) => {
    if (!d) return;
    seen += 1;
    const { tile } = tileOf(d.state);
    tile.children[2].textContent = `${d.commodity.toLowerCase()}, ${amount(d.arrivals_tonnes)} t at ${d.market}, ₹${count(d.modal_price)}`;
    tile.classList.add("flash");
    requestAnimationFrame(() => requestAnimationFrame(() => tile.classList.remove("flash")));
  });
  setInterval(() => { $("board-rate").textContent = `${count(seen / 2)} lots a second`; seen = 0; }, 2000);
}

function onPriceAlert({ d }) {
  if (!d) return;
  prepend($("alerts"), element("li", { cls: "alert" },
    element("time", { text: clock(d.at_time) }),
    `${d.commodity} at ${d.market} (${d.state}): ₹${count(d.modal_price)}, ${d.ratio}× its week's average of ₹${count(d.week_price)}`), ALERTS_MAX);
}

function onQuakeAlert({ d }) {
  if (!d) return;
  prepend($("alerts"), element("li", { cls: "quake" }, element("time", { text: clock(d.time) }), `Magnitude ${d.mag.toFixed(1)} ${d.severity}: ${d.place}`), ALERTS_MAX);
}

function startMap() {
  $("quakes").hidden = false;
  const dots = new Map();
  const show = (quake, fresh) => {
    dots.get(quake.id)?.remove();
    const dot = shape("circle", { cx: (quake.lon + 180) * 2, cy: (90 - quake.lat) * 2, r: Math.max(1.5, 1 + quake.mag * 1.3), class: `quake-dot ${quake.severity}${fresh ? " fresh" : ""}` });
    const name = shape("title", {});
    name.textContent = `${quake.mag} ${quake.place}`;
    dot.append(name);
    $("quake-dots").append(dot);
    dots.delete(quake.id);
    dots.set(quake.id, dot);
    if (fresh) {
      for (const other of $("quake-dots").querySelectorAll(".fresh")) if (other !== dot) other.classList.remove("fresh");
      const revised = quake.updated !== quake.time ? `, revised ${clock(quake.updated)}` : "";
      $("quake-last").textContent = `${clock(quake.time)}  magnitude ${quake.mag}, ${quake.place}${revised}`;
    }
    while (dots.size > QUAKES_MAX) { const [oldest] = dots.keys(); dots.get(oldest).remove(); dots.delete(oldest); }
  };
  follow("latest_quakes", { after: "latest" }, ({ d, op }) => { if (d && op !== "-D") show(d, true); });
  every(MAP_REFRESH_MS, async () => { // the past, also when it is still being loaded while the page opens
    const page = await get(`/v1/data/latest_quakes?order=time.desc&limit=${QUAKES_MAX}`);
    for (const row of page.rows.reverse()) if (!dots.has(row.id)) show(row, false);
  });
}

function startReports() {
  $("farmers").hidden = false;
  const waiting = new Map(); // report id -> { item, sentAt }
  follow("open_reports", { after: "latest" }, ({ d }) => { if (d) showReport(d); });
  let opened;
  const following = new Promise((done) => { opened = done; }); // a pickup of before that would not be seen
  follow("pickups", { after: "latest" }, ({ d }) => {
    opened(); // the first message is the notice that says from where on
    if (!d) return;
    const report = waiting.get(d.report_id);
    if (!report) return;
    const took = report.sentAt ? ` — back after ${Math.round(performance.now() - report.sentAt)} ms` : "";
    report.item.className = "done";
    report.item.dataset.report = d.report_id;
    report.item.replaceChildren(element("time", { text: clock(d.assigned_at) }), `${d.driver} with ${d.vehicle} fetches ${amount(d.tonnes)} t of ${d.commodity} from ${d.farmer} in ${d.village}${took}`);
  });
  async function assign(report, button) {
    button.disabled = true;
    await following;
    const pick = Math.floor(Math.random() * VEHICLES.length);
    const entry = waiting.get(report.id);
    entry.sentAt = performance.now();
    const event = { id: `page-${crypto.randomUUID()}`, ts: new Date().toISOString(), report_id: report.id, vehicle: VEHICLES[pick], driver: DRIVERS[pick] };
    try {
      await call("POST", "/v1/streams/assignments/events", { body: JSON.stringify(event) });
    } catch (error) {
      button.disabled = false;
      button.title = error.message;
    }
  }
  function showReport(report) {
    if (waiting.has(report.id)) return;
    const button = element("button", { text: "Send a vehicle", type: "button" });
    const text = element("span", {}, element("time", { text: clock(report.ts) }), `${report.farmer} in ${report.village}: ${amount(report.tonnes)} t of ${report.commodity} ready (${report.phone})`);
    const item = element("li", {}, element("div", { cls: "row" }, text, button));
    waiting.set(report.id, { item, sentAt: null });
    button.addEventListener("click", () => assign(report, button));
    prepend($("reports"), item, REPORTS_MAX);
    if (waiting.size > 4 * REPORTS_MAX) waiting.delete(waiting.keys().next().value);
  }
  get("/v1/data/open_reports?order=ts.desc&limit=5").then((page) => { for (const row of page.rows.reverse()) showReport(row); });
}

