// Starts the parts of the page. Each part is a module of its own and minds its own section.
import { every, get } from "./api.js";
import { startBoard } from "./board.js";
import { startChart } from "./chart.js";
import { startEditor } from "./editor.js";
import { startRejected } from "./rejected.js";
import { startStreams } from "./streams.js";
import { $ } from "./view.js";

const HEALTH_MS = 3000;

async function start() {
  const { topics } = await get("/v1/topics");
  const names = new Set(topics.map((topic) => topic.topic));
  startBoard(names);
  startChart(names);
  startStreams();
  startRejected();
  startEditor();
}

function health(state, text) {
  $("health").className = `health ${state}`;
  $("health-text").textContent = text;
}

every(HEALTH_MS, async () => {
  try {
    const { parts } = await get("/readyz");
    health("ok", `ready: ${Object.keys(parts).length} parts`);
  } catch (error) {
    health("bad", error.status === 503 ? "not ready" : "not reachable");
  }
});
start();
