// Rejected events: the newest first, each with its reason; correct the text and replay it.
import { call, every, get } from "./api.js";
import { $, element } from "./view.js";

const REFRESH_MS = 3000, SHOWN = 15;

export function startRejected() {
  every(REFRESH_MS, async () => {
    const body = $("rejected-table").tBodies[0];
    if (body.contains(document.activeElement)) return; // somebody is correcting an event: leave it alone
    const { events } = await get(`/v1/rejected?limit=${SHOWN}`);
    if (!events.length) {
      body.replaceChildren(element("tr", {}, element("td", { cls: "quiet", text: "Nothing was rejected.", colSpan: 6 })));
      return;
    }
    body.replaceChildren(...events.map(row));
  });
}

function row(event) {
  const text = element("input", { defaultValue: event.raw, ariaLabel: `Event ${event.id}`, size: 40, spellcheck: false });
  const button = element("button", { text: "Replay", type: "button" });
  button.disabled = event.code === "late"; // late rows are listed, not replayable: their window is final
  const reason = element("td", {}, element("code", { text: event.code }), ` ${event.detail}`);
  button.addEventListener("click", async () => {
    button.disabled = true;
    try {
      await call("POST", "/v1/rejected/replay", { body: JSON.stringify({ events: [{ id: event.id, raw: text.value }] }) });
      button.textContent = "Replayed";
    } catch (error) {
      button.disabled = false;
      reason.append(element("div", { cls: "problem", text: error.message }));
    }
    button.blur();
  });
  return element("tr", {},
    element("td", { text: new Date(event.at).toLocaleTimeString() }),
    element("td", { text: event.stream }),
    element("td", { text: event.statement || "admission" }),
    reason, element("td", {}, text), element("td", {}, button));
}
