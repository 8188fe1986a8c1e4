// One's applications: register, credentials (once), plan, new secret, delete, usage.
import { call, get } from "./api.js";
import { usageChart } from "./usage-chart.js";
import { $, count, element } from "./view.js";

const DAYS = 7;
const PAGE = 100;
const LIMITS = { Messages: ["messages_per_s", "messages_per_day"], Bytes: ["bytes_per_s", "bytes_per_day"], Queries: ["queries_per_s", "queries_per_day"] };

export async function startApplications() {
  let plans;
  try {
    ({ plans } = await get("/v1/plans"));
  } catch (error) {
    $("applications-problem").textContent = error.message;
    $("applications-problem").hidden = false;
    return;
  }
  const fieldset = $("plans");
  const offered = plans.filter((plan) => plan.self_service !== false || document.body.dataset.admin !== undefined);
  offered.forEach((plan, place) => fieldset.append(planChoice(plan, place === 0)));
  $("register-form").addEventListener("submit", register);
  $("credentials-done").addEventListener("click", forgetCredentials);
  await list();

  async function list() {
    const applications = await all();
    $("applications-count").textContent = applications.length ? "" : "None yet; register one below.";
    $("applications").replaceChildren(...applications.map(card));
  }

  async function all() {
    const found = [];
    let cursor = "";
    do {
      const page = await get(`/v1/applications?limit=${PAGE}${cursor && `&cursor=${encodeURIComponent(cursor)}`}`);
      found.push(...page.applications);
      cursor = page.next;
    } while (cursor);
    return found;
  }

  async function register(event) {
    event.preventDefault();
    const form = event.target;
    const scope = [...form.querySelectorAll('input[name="scope"]:checked')].map((box) => box.value).join(" ");
    const body = { name: form.elements.name.value.trim(), description: form.elements.description.value.trim(), scope };
    const plan = form.querySelector('input[name="plan"]:checked');
    if (plan) body.plan = plan.value;
    const addresses = form.elements.redirect_uris.value.split(/\s+/).filter(Boolean);
    if (addresses.length) body.redirect_uris = addresses;
    const problem = $("register-problem");
    problem.hidden = true;
    try {
      const { answer } = await call("POST", "/v1/applications", { body: JSON.stringify(body) });
      form.reset();
      await list();
      showCredentials(answer.application.name, answer.client_id, answer.client_secret);
    } catch (error) {
      problem.textContent = error.message;
      problem.hidden = false;
    }
  }

  function card(application) {
    const path = `/v1/applications/${encodeURIComponent(application.id)}`;
    const usage = element("div", { cls: "usage-box", hidden: true });
    const choice = element("select", { ariaLabel: `Plan of ${application.name}` }, ...plans.map((plan) => element("option", { value: plan.name, text: plan.name, selected: plan.name === application.plan })));
    choice.addEventListener("change", () => attempt(async () => {
      await call("PUT", path, { body: JSON.stringify({ plan: choice.value }) });
    }));
    const button = (text, cls, work) => {
      const made = element("button", { type: "button", text, cls });
      made.addEventListener("click", () => attempt(() => work(made)));
      return made;
    };
    const buttons = element("div", { cls: "buttons" },
      button("Usage", "", async (made) => {
        usage.hidden = !usage.hidden;
        made.setAttribute("aria-expanded", String(!usage.hidden));
        if (!usage.hidden) usage.replaceChildren(usageChart((await get(`${path}/usage?days=${DAYS}`)).days));
      }),
      button("New secret", "", async () => {
        if (!await confirmed(`Make a new secret for ${application.name}? The old one stops working at once.`, "Make it")) return;
        const { answer } = await call("POST", `${path}/secret`, { body: "{}" });
        showCredentials(application.name, application.id, answer.client_secret);
      }),
      button("Delete", "danger", async () => {
        if (!await confirmed(`Delete ${application.name}? Its tokens and credentials stop working.`, "Delete")) return;
        await call("DELETE", path);
        forgetCredentials();
        await list();
      }));
    return element("li", { cls: "panel application" },
      element("div", { cls: "section-head" }, element("h3", { text: application.name }), element("label", { cls: "quiet" }, "Plan ", choice)),
      element("p", { cls: "quiet", text: application.description || "" }),
      element("p", { cls: "ids" }, element("code", { text: application.id }), ...application.scope.split(" ").filter(Boolean).map((one) => element("i", { cls: "badge plain", text: one }))),
      buttons, usage);
  }
}

function planChoice(plan, first) {
  const known = (limit) => limit !== null && limit !== undefined;
  const lines = Object.entries(LIMITS).map(([what, [second, day]]) => {
    const shown = what === "Bytes" ? size : count;
    return [what, [known(plan[second]) ? `${shown(plan[second])}/s` : "", known(plan[day]) ? `${shown(plan[day])}/day` : ""].filter(Boolean).join(" · ")];
  }).filter(([, text]) => text);
  if (known(plan.connections)) lines.push(["Connections", count(plan.connections)]);
  if (!lines.length) lines.push(["No limits", ""]);
  const radio = element("input", { type: "radio", name: "plan", value: plan.name, checked: first, defaultChecked: first });
  return element("label", { cls: "plan" }, radio, element("span", {}, element("b", { text: plan.name }), ...lines.map(([what, text]) => element("small", {}, what, element("span", { text })))));
}

function size(bytes) {
  const step = Math.min(3, Math.floor(Math.log2(Math.max(1, bytes)) / 10));
  return `${count(bytes / 1024 ** step)} ${["B", "KiB", "MiB", "GiB"][step]}`;
}

function showCredentials(name, id, secret) {
  $("credentials-name").textContent = name;
  $("credentials-id").textContent = id;
  $("credentials-secret").textContent = secret;
  const url = $("credentials-command").dataset.url;
  $("credentials-command").textContent = `export CLIENT_ID='${id}' CLIENT_SECRET='${secret}'\nexport TOKEN=$(curl -s -u "$CLIENT_ID:$CLIENT_SECRET" \\\n  -d grant_type=client_credentials ${url}/oauth/token \\\n  | sed -E 's/.*"access_token":"([^"]+)".*/\\1/')`;
  $("credentials").hidden = false;
  $("credentials").focus();
  $("credentials").scrollIntoView({ block: "start" });
}

function forgetCredentials() {
  for (const part of ["name", "id", "secret", "command"]) $(`credentials-${part}`).textContent = "";
  $("credentials").hidden = true;
}

async function attempt(work) {
  $("applications-problem").hidden = true;
  try {
    await work();
  } catch (error) {
    $("applications-problem").textContent = error.message;
    $("applications-problem").hidden = false;
  }
}

function confirmed(question, yes) {
  const dialog = $("confirm");
  $("confirm-text").textContent = question;
  $("confirm-yes").textContent = yes;
  dialog.returnValue = "no";
  dialog.showModal();
  return new Promise((done) => dialog.addEventListener("close", () => done(dialog.returnValue === "yes"), { once: true }));
}
