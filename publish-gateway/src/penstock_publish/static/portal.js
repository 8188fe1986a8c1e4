// Starts what a page of the portal has. Each part is a module of its own and minds its own elements.
import { startApplications } from "./applications.js";
import { startCopying } from "./copying.js";
import { startFetched } from "./fetched-json.js";
import { startLifecycle } from "./lifecycle-form.js";
import { startSearch } from "./searching.js";
import { startSignOut } from "./sign-out.js";
import { startTabs } from "./tabs.js";
import { startTryIt } from "./try-it.js";

const NARROW = "(max-width: 860px)";

if (matchMedia(NARROW).matches) for (const box of document.querySelectorAll("details.side-box")) box.open = false;
startTabs();
startCopying();
startSearch();
startFetched();
startSignOut();
if (document.getElementById("tryit")) startTryIt();
if (document.getElementById("lifecycle-form")) startLifecycle();
if (document.getElementById("register-form")) startApplications();
