// Ends the session of the page; the token behind the cookie is revoked.
import { call } from "./api.js";

export function startSignOut() {
  document.getElementById("sign-out")?.addEventListener("click", async () => {
    await call("DELETE", "/session");
    location.assign("/docs");
  });
}
