// JSON of the page in colours; documents are fetched when they come into view.
import { get } from "./api.js";
import { jsonNodes } from "./json-text.js";

export function startFetched() {
  for (const box of document.querySelectorAll("pre[data-json]:not([data-fetch])")) colour(box, box.textContent);
  const seen = new IntersectionObserver((entries) => {
    for (const { isIntersecting, target } of entries) {
      if (!isIntersecting) continue;
      seen.unobserve(target);
      load(target);
    }
  });
  for (const box of document.querySelectorAll("pre[data-fetch]")) seen.observe(box);
}

async function load(box) {
  try {
    colour(box, JSON.stringify(await get(box.dataset.fetch), null, 2));
  } catch (error) {
    box.firstElementChild.textContent = error.message;
  }
}

function colour(box, text) {
  box.firstElementChild.replaceChildren(...jsonNodes(text));
}
