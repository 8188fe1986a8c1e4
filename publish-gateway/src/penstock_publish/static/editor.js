// The app's SQL: checked while you type (after a pause), deployed with the version it was read at (If-Match).
import { call, get } from "./api.js";
import { $, element } from "./view.js";

const CHECK_AFTER_MS = 400;
const EXAMPLE = "produce-markets", HINTED = "modal_price < 500"; // what the page's hint is about

export async function startEditor() {
  const area = $("app-sql"), deploy = $("app-deploy"), select = $("app-name");
  let loaded = "", etag = null, timer = 0, turn = 0;
  const { apps } = await get("/v1/apps");
  select.replaceChildren(...apps.map((app) => element("option", { text: app.name, value: app.name })));
  if (apps.some((app) => app.name === EXAMPLE)) select.value = EXAMPLE;
  if (!apps.length) { $("app-status").textContent = "No app is deployed. PUT /v1/apps/{name} deploys one."; return; }

  async function load() {
    const mine = ++turn; // whoever has chosen another app meanwhile wants that one, whichever answer comes last
    const { answer, etag: version } = await call("GET", `/v1/apps/${select.value}`);
    if (mine !== turn) return;
    loaded = answer.sql; etag = version; area.value = loaded;
    $("app-version").textContent = `version ${answer.version}`;
    $("app-hint").hidden = !loaded.includes(HINTED);
    show([], "As it runs.");
    deploy.disabled = true;
  }
  function show(errors, status) {
    const bad = new Set(errors.map((error) => error.line));
    const lines = area.value.split("\n").length;
    $("app-gutter").replaceChildren(...Array.from({ length: lines }, (_, n) => element("div", { cls: bad.has(n + 1) ? "bad" : "", text: String(n + 1) })));
    $("app-errors").replaceChildren(...errors.map((error) => {
      const place = element("button", { cls: "link", type: "button", text: `Line ${error.line}, column ${error.column}` });
      place.addEventListener("click", () => goTo(error));
      return element("li", {}, place, `: ${error.message}`, element("small", { text: error.remedy }));
    }));
    $("app-status").textContent = status;
    $("app-gutter").scrollTop = area.scrollTop;
  }
  function goTo({ line, column }) {
    const offset = area.value.split("\n").slice(0, line - 1).join("\n").length + (line > 1 ? 1 : 0) + column - 1;
    area.focus();
    area.setSelectionRange(offset, offset);
    area.scrollTop = Math.max(0, (line - 6) * parseFloat(getComputedStyle(area).lineHeight));
  }
  async function check() {
    const mine = ++turn;
    const { answer } = await call("POST", `/v1/apps/${select.value}/validate`, { body: area.value, type: "application/sql" });
    if (mine !== turn) return;
    const changed = area.value !== loaded;
    deploy.disabled = answer.errors.length > 0 || !changed;
    show(answer.errors, answer.errors.length ? "Not deployed: the app runs on as it was." : changed ? "Checked. Ready to deploy." : "As it runs.");
  }
  area.addEventListener("input", () => { deploy.disabled = true; clearTimeout(timer); timer = setTimeout(check, CHECK_AFTER_MS); });
  area.addEventListener("scroll", () => { $("app-gutter").scrollTop = area.scrollTop; });
  select.addEventListener("change", load);
  $("app-reset").addEventListener("click", load);
  deploy.addEventListener("click", async () => {
    deploy.disabled = true;
    try {
      const { answer, etag: version } = await call("PUT", `/v1/apps/${select.value}`, { body: area.value, type: "application/sql", headers: etag ? { "If-Match": etag } : {} });
      loaded = area.value; etag = version;
      $("app-version").textContent = `version ${answer.version}`;
      show([], `Deployed as version ${answer.version}.`);
    } catch (error) {
      show(error.errors || [], error.message);
      deploy.disabled = false;
    }
  });
  await load();
}
