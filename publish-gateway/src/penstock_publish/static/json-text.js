// JSON in colours: text nodes and spans, never HTML.
import { element } from "./view.js";

const TOKENS = /("(?:\\.|[^"\\])*")(\s*:)?|(-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)|\b(true|false|null)\b/g;

export function jsonNodes(text) {
  const nodes = [];
  let last = 0;
  for (const match of text.matchAll(TOKENS)) {
    if (match.index > last) nodes.push(text.slice(last, match.index));
    const cls = match[1] ? (match[2] ? "j-key" : "j-text") : match[3] ? "j-number" : "j-word";
    nodes.push(element("span", { cls, text: match[1] || match[0] }));
    if (match[2]) nodes.push(match[2]);
    last = match.index + match[0].length;
  }
  nodes.push(text.slice(last));
  return nodes;
}
