// Usage of an application, a bar a day, and the same as a table.
import { count, element, shape } from "./view.js";

const HEIGHT = 130, LEFT = 52, TOP = 10, BOTTOM = 22;
const MEASURES = { messages: "Messages", bytes: "Bytes", connections: "Connections", queries: "Queries", refused: "Refused" };

export function usageChart(days) {
  const choice = element("select", { ariaLabel: "What to draw" }, ...Object.entries(MEASURES).map(([value, text]) => element("option", { value, text })));
  const svg = shape("svg", { class: "usage-chart", role: "img", "aria-label": "Usage a day" });
  const draw = () => drawBars(svg, days, choice.value);
  choice.addEventListener("change", draw);
  const head = element("tr", {}, element("th", { text: "Day", scope: "col" }), ...Object.values(MEASURES).map((text) => element("th", { cls: "num", text, scope: "col" })));
  const rows = days.map((day) => element("tr", {}, element("td", { text: day.day }), ...Object.keys(MEASURES).map((name) => element("td", { cls: "num", text: count(day[name] || 0) }))));
  const table = element("div", { cls: "scroll" }, element("table", {}, element("thead", {}, head), element("tbody", {}, ...rows)));
  const box = element("div", { cls: "usage" }, element("label", {}, "Usage a day ", choice), svg, element("details", {}, element("summary", { text: "The same as a table" }), table));
  requestAnimationFrame(draw); // once it has a width
  return box;
}

function drawBars(svg, days, measure) {
  const width = Math.max(240, svg.clientWidth);
  svg.setAttribute("viewBox", `0 0 ${width} ${HEIGHT}`);
  const most = Math.max(2, ...days.map((day) => day[measure] || 0)); // counts: no half of one is written beside the middle line
  const y = (value) => TOP + (HEIGHT - TOP - BOTTOM) * (1 - value / most);
  const slot = (width - LEFT) / Math.max(1, days.length);
  const bar = Math.min(56, slot * 0.6);
  const parts = [];
  for (const at of [0, most / 2, most]) {
    parts.push(shape("line", { class: "grid", x1: LEFT, x2: width, y1: y(at), y2: y(at) }), label(LEFT - 6, y(at) + 4, short(at), "end"));
  }
  if (!days.some((day) => day[measure])) parts.push(noneAt(LEFT + (width - LEFT) / 2, y(most / 2) - 8, measure));
  days.forEach((day, place) => {
    const value = day[measure] || 0;
    const drawn = shape("rect", { class: "bar", x: LEFT + (place + 0.5) * slot - bar / 2, width: bar, y: y(value), height: HEIGHT - BOTTOM - y(value), rx: 2 });
    const title = shape("title", {});
    title.textContent = `${day.day}: ${count(value)}`;
    drawn.append(title);
    parts.push(drawn, label(LEFT + (place + 0.5) * slot, HEIGHT - 6, day.day.slice(5), "middle"));
  });
  svg.replaceChildren(...parts);
}

function noneAt(x, y, measure) {
  const made = label(x, y, `No ${MEASURES[measure].toLowerCase()} in these days yet`, "middle");
  made.setAttribute("class", "none");
  return made;
}

const compact = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });
const short = (value) => compact.format(value);

function label(x, y, text, anchor) {
  const made = shape("text", { x, y, "text-anchor": anchor });
  made.textContent = text;
  return made;
}
