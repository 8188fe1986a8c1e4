// A "Copy" button beside each text that is there to be copied.
import { element } from "./view.js";

const SAID_MS = 1600;

export function startCopying(root = document) {
  for (const text of root.querySelectorAll("pre[data-copy]")) {
    const button = element("button", { cls: "copy", type: "button", text: "Copy" });
    button.addEventListener("click", () => copyWith(button, () => text.textContent.trim()));
    text.after(button);
  }
}

// Copy what `read` gives, and say so on the button.
export async function copyWith(button, read) {
  const before = button.textContent;
  const done = await copyText(read());
  button.textContent = done ? "Copied" : "Select and copy";
  button.setAttribute("aria-live", "polite");
  setTimeout(() => { button.textContent = before; }, SAID_MS);
}

async function copyText(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch { // plain HTTP from another host: browsers give pages no clipboard there
    const area = element("textarea", { value: text, cls: "visually-hidden" });
    document.body.append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    return done;
  }
}
