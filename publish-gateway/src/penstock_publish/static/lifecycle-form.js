// State, version and words of a topic, for those who may change them.
import { call } from "./api.js";

const ENDING = ["deprecated", "retired"];

export function startLifecycle() {
  const form = document.getElementById("lifecycle-form");
  const status = document.getElementById("lifecycle-status");
  const fields = form.elements;
  const ending = () => ENDING.includes(fields.state.value);
  const show = () => { for (const part of form.querySelectorAll("[data-ending]")) part.hidden = !ending(); };
  fields.state.addEventListener("change", show);
  show();
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const change = { state: fields.state.value, version: fields.version.value, description: fields.description.value };
    if (ending() && fields.successor.value) change.successor = fields.successor.value;
    if (ending() && fields.sunset.value) change.sunset = `${fields.sunset.value}T00:00:00Z`;
    try {
      await call("PUT", `/v1/topics/${encodeURIComponent(form.dataset.topic)}/lifecycle`, { body: JSON.stringify(change) });
      location.reload();
    } catch (error) {
      status.className = "problem";
      status.textContent = error.message;
    }
  });
}
