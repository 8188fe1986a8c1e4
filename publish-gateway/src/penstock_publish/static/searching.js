// Search fields: `data-search` says what they filter; "/" goes to the first of them, Escape empties it.

export function startSearch() {
  const fields = [...document.querySelectorAll("[data-search]")];
  for (const field of fields) {
    const found = document.querySelector("[data-search-count]");
    const total = found?.textContent;
    const filter = () => {
      const words = field.value.toLowerCase().split(/\s+/).filter(Boolean);
      const items = [...document.querySelectorAll(field.dataset.search)];
      let shown = 0;
      for (const item of items) {
        const text = (item.dataset.text || item.textContent).toLowerCase();
        const hit = words.every((word) => text.includes(word));
        (item.closest("li") || item).hidden = !hit;
        shown += hit ? 1 : 0;
      }
      const none = field.closest("details, section")?.querySelector("[data-search-none]");
      if (none) none.hidden = shown > 0;
      if (found && field.id === "search") found.textContent = words.length ? `${shown} found` : total;
      for (const list of document.querySelectorAll(".cards")) {
        const empty = ![...list.children].some((card) => !card.hidden);
        list.hidden = empty;
        if (list.previousElementSibling?.classList.contains("group")) list.previousElementSibling.hidden = empty;
      }
    };
    field.addEventListener("input", filter);
    field.addEventListener("keydown", (event) => {
      if (event.key === "Escape") { field.value = ""; filter(); }
    });
  }
  document.addEventListener("keydown", (event) => {
    if (event.key !== "/" || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target.closest("input, textarea, select, [contenteditable]")) return;
    const field = fields.find((one) => one.offsetParent !== null);
    if (!field) return;
    event.preventDefault();
    field.focus();
  });
}
