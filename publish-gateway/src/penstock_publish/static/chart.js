// The chart of a summary: stacked columns a day, the running day paler than the complete ones.
import { every, get } from "./api.js";
import { $, amount, element, moment, shape } from "./view.js";

const REFRESH_MS = 4000, DAYS = 31, DAY_MS = 86_400_000;
const HEIGHT = 280, LEFT = 56, BOTTOM = 26, TOP = 8;

export function startChart(topics) {
  if (!topics.has("daily_arrivals")) return;
  $("summary").hidden = false;
  every(REFRESH_MS, async () => {
    const to = new Date(Math.ceil(Date.now() / DAY_MS) * DAY_MS);
    const from = new Date(to - DAYS * DAY_MS);
    const iso = (t) => t.toISOString().slice(0, -1);
    const query = new URLSearchParams({ time: "day_start", from: iso(from), to: iso(to), bucket: "1d", group: "commodity", agg: "sum(tonnes)" });
    draw(await get(`/v1/summaries/daily_arrivals?${query}`));
  });
}

function draw({ rows, complete_to }) {
  const days = [...new Set(rows.map((row) => row.bucket))].sort();
  const groups = [...new Set(rows.map((row) => row.commodity))].sort();
  const value = new Map(rows.map((row) => [`${row.bucket}|${row.commodity}`, row.sum_tonnes || 0]));
  const total = (day) => groups.reduce((sum, group) => sum + (value.get(`${day}|${group}`) || 0), 0);
  const most = niceCeiling(Math.max(1, ...days.map(total)));
  const width = $("chart").parentElement.clientWidth || 800;
  const svg = $("chart");
  svg.setAttribute("viewBox", `0 0 ${width} ${HEIGHT}`);
  const parts = [];
  const y = (amountShown) => TOP + (HEIGHT - TOP - BOTTOM) * (1 - amountShown / most);
  for (let step = 0; step <= 4; step += 1) {
    const at = (most * step) / 4;
    parts.push(shape("line", { class: "grid", x1: LEFT, x2: width, y1: y(at), y2: y(at) }));
    const label = shape("text", { x: LEFT - 8, y: y(at) + 4, "text-anchor": "end" });
    label.textContent = amount(at);
    parts.push(label);
  }
  const slot = (width - LEFT) / Math.max(days.length, 1);
  const every_ = Math.ceil(70 / slot);
  days.forEach((day, index) => {
    const running = !complete_to || moment(day).getTime() + DAY_MS > moment(complete_to).getTime();
    let below = 0;
    groups.forEach((group, place) => {
      const tonnes = value.get(`${day}|${group}`) || 0;
      const bar = shape("rect", { x: LEFT + index * slot + slot * 0.12, width: Math.max(1, slot * 0.76), y: y(below + tonnes), height: Math.max(0, y(below) - y(below + tonnes)), class: running ? "running" : "", style: `fill: var(--c${place % 5})` });
      const title = shape("title", {});
      title.textContent = `${day.slice(0, 10)} ${group}: ${amount(tonnes)} t${running ? " so far" : ""}`;
      bar.append(title);
      parts.push(bar);
      below += tonnes;
    });
    if ((days.length - 1 - index) % every_ === 0) {
      const label = shape("text", { x: LEFT + (index + 0.5) * slot, y: HEIGHT - 8, "text-anchor": "middle" });
      label.textContent = moment(day).toLocaleDateString([], { day: "numeric", month: "short", timeZone: "UTC" });
      parts.push(label);
    }
  });
  svg.replaceChildren(...parts);
  $("chart-legend").replaceChildren(...groups.map((group, place) => {
    const mark = element("i");
    mark.style.background = `var(--c${place % 5})`;
    return element("span", {}, mark, group);
  }));
  $("complete-to").textContent = complete_to ? `Complete to ${moment(complete_to).toLocaleString()}; what is paler is still running.` : "Nothing is complete yet.";
  $("chart-table").replaceChildren(
    element("thead", {}, element("tr", {}, element("th", { text: "day" }), ...groups.map((group) => element("th", { cls: "num", text: group })))),
    element("tbody", {}, ...days.map((day) => element("tr", {}, element("td", { text: day.slice(0, 10) }), ...groups.map((group) => element("td", { cls: "num", text: amount(value.get(`${day}|${group}`)) }))))),
  );
}

function niceCeiling(most) {
  const power = 10 ** Math.floor(Math.log10(most));
  return [1, 2, 4, 5, 8, 10].map((factor) => factor * power).find((bound) => bound >= most);
}
