// Small building blocks for the view: elements from text (never from HTML), numbers and times for people.

export const $ = (id) => document.getElementById(id);

export function element(tag, { cls, text, title, ...rest } = {}, ...children) {
  const made = document.createElement(tag);
  if (cls) made.className = cls;
  if (text !== undefined) made.textContent = text;
  if (title) made.title = title;
  Object.assign(made, rest);
  made.append(...children);
  return made;
}

export function shape(tag, attributes) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const tenth = new Intl.NumberFormat("en", { maximumFractionDigits: 1 });
export const count = (n) => (n === null || n === undefined ? "" : whole.format(n));
export const amount = (n) => (n === null || n === undefined ? "" : Math.abs(n) < 100 ? tenth.format(n) : whole.format(n));

// Penstock writes TIMESTAMP without a zone; it is UTC.
export const moment = (text) => new Date(/Z$|[+-]\d\d:\d\d$/.test(text) ? text : `${text}Z`);
export const clock = (text) => (text ? moment(text).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", second: "2-digit" }) : "");

export function prepend(list, item, limit) {
  list.querySelector(".empty")?.remove();
  list.prepend(item);
  while (list.children.length > limit) list.lastElementChild.remove();
}
