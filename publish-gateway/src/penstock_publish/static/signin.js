// Exchanges a client's id and secret for the session cookie.
import { call } from "./api.js";

const form = document.getElementById("signin");
form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const problem = form.querySelector(".problem");
  problem.hidden = true;
  try {
    await call("POST", "/session", { body: JSON.stringify(Object.fromEntries(new FormData(form))) });
    location.reload();
  } catch (error) {
    problem.textContent = error.message;
    problem.hidden = false;
  }
});
