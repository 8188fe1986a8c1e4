// A small line chart in SVG: an area, a line, the last point, and the bounds of the axis in figures.
import { amount, shape } from "./view.js";

const HEIGHT = 110, LEFT = 44, TOP = 8, BOTTOM = 10, RIGHT = 8;

// `values`: numbers, oldest first; null leaves a hole. `slots`: how many there is room for.
export function drawLine(svg, values, { slots, fromZero = false } = {}) {
  const width = Math.max(160, svg.clientWidth);
  svg.setAttribute("viewBox", `0 0 ${width} ${HEIGHT}`);
  const known = values.filter((value) => value !== null && Number.isFinite(value));
  let least = fromZero ? 0 : Math.min(...known), most = Math.max(...known, fromZero ? 1 : -Infinity);
  if (!known.length) { least = 0; most = 1; }
  if (least === most) { least -= 1; most += 1; }
  const x = (place) => LEFT + ((width - LEFT - RIGHT) * (place + slots - values.length)) / Math.max(1, slots - 1);
  const y = (value) => TOP + (HEIGHT - TOP - BOTTOM) * (1 - (value - least) / (most - least));
  const parts = [];
  for (const at of [least, (least + most) / 2, most]) {
    parts.push(shape("line", { class: "grid", x1: LEFT, x2: width - RIGHT, y1: y(at), y2: y(at) }));
    const label = shape("text", { x: LEFT - 6, y: y(at) + 4, "text-anchor": "end" });
    label.textContent = known.length ? amount(at) : "";
    parts.push(label);
  }
  const points = values.map((value, place) => [x(place), value]).filter(([, value]) => value !== null && Number.isFinite(value)).map(([at, value]) => [at.toFixed(1), y(value).toFixed(1)]);
  if (points.length) {
    const line = points.map((point) => point.join(" ")).join(" L ");
    const [first, last] = [points[0], points[points.length - 1]];
    parts.push(shape("path", { class: "area", d: `M ${first[0]} ${y(least)} L ${line} L ${last[0]} ${y(least)} Z` }));
    parts.push(shape("path", { class: "line", d: `M ${line}` }));
    parts.push(shape("circle", { class: "point", cx: last[0], cy: last[1], r: 3 }));
  }
  svg.replaceChildren(...parts);
}
