// Streams and topics with their rates (differences of the totals in the apps' statistics), and a look into a topic.
import { every, follow, get } from "./api.js";
import { $, amount, count, element } from "./view.js";

const REFRESH_MS = 2000, LINES_MAX = 40;

export function startStreams() {
  let before = null;
  let stopWatching = null;
  every(REFRESH_MS, async () => {
    const [{ topics }, { apps }] = await Promise.all([get("/v1/topics"), get("/v1/apps")]);
    const statistics = await Promise.all(apps.map(async ({ name }) => [name, await get(`/v1/apps/${name}/statistics`)]));
    const now = performance.now();
    const totals = new Map();
    const rows = [];
    for (const [app, figures] of statistics) {
      for (const [name, source] of Object.entries(figures.sources)) {
        totals.set(`in ${name}`, source.rows);
        rows.push({ name, kind: "source", app, key: `in ${name}`, total: source.rows, lag: source.lag_events, columns: "" });
      }
      for (const [name, statement] of Object.entries(figures.statements)) totals.set(`out ${name}`, statement.rows_out);
    }
    for (const topic of topics) {
      const key = `out ${topic.topic}`;
      rows.push({ name: topic.topic, kind: topic.relation, app: topic.app || "", key, total: totals.get(key), columns: topic.columns.map((c) => c.name).join(", "), topic: true });
    }
    const seconds = before ? (now - before.at) / 1000 : 0;
    const rate = (row) => (before && before.totals.has(row.key) && row.total !== undefined ? Math.max(0, row.total - before.totals.get(row.key)) / seconds : undefined);
    $("stream-table").tBodies[0].replaceChildren(...rows.map((row) => line(row, rate(row))));
    before = { at: now, totals };
  });
  function line(row, rate) {
    const name = row.topic ? element("button", { cls: "link", type: "button", text: row.name }) : element("span", { text: row.name });
    if (row.topic) name.addEventListener("click", () => watch(row.name));
    return element("tr", {}, element("td", {}, name), element("td", { text: row.kind }), element("td", { text: row.app }),
      element("td", { cls: "num", text: amount(rate) }), element("td", { cls: "num", text: count(row.total) }),
      element("td", { cls: "num", text: row.lag === undefined ? "" : count(row.lag) }), element("td", { cls: "cols", text: row.columns }));
  }
  function watch(topic) {
    stopWatching?.();
    $("watch").hidden = false;
    $("watch-title").textContent = `${topic}, live`;
    const lines = [];
    $("watch-lines").textContent = "waiting for the next event";
    stopWatching = follow(topic, { after: "latest" }, (event) => {
      if (event.sys === "hb" || event.sys === "open") return;
      lines.unshift(JSON.stringify(event));
      lines.length = Math.min(lines.length, LINES_MAX);
      $("watch-lines").textContent = lines.join("\n");
    });
  }
  $("watch-close").addEventListener("click", () => { stopWatching?.(); stopWatching = null; $("watch").hidden = true; });
}
