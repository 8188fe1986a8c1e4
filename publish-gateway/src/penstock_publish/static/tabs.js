// Tabs (ARIA Authoring Practices): arrows, Home and End move between them; without scripts all panels are shown.

export function startTabs(root = document) {
  for (const box of root.querySelectorAll("[data-tabs]")) {
    const tabs = [...box.querySelectorAll('[role="tab"]')];
    const choose = (tab, { focus = false } = {}) => {
      for (const one of tabs) {
        const chosen = one === tab;
        one.setAttribute("aria-selected", String(chosen));
        one.tabIndex = chosen ? 0 : -1;
        document.getElementById(one.getAttribute("aria-controls")).hidden = !chosen;
      }
      if (focus) tab.focus();
    };
    tabs.forEach((tab, place) => {
      tab.addEventListener("click", () => choose(tab));
      tab.addEventListener("keydown", (event) => {
        const to = { ArrowRight: place + 1, ArrowLeft: place - 1, Home: 0, End: tabs.length - 1 }[event.key];
        if (to === undefined) return;
        event.preventDefault();
        choose(tabs[(to + tabs.length) % tabs.length], { focus: true });
      });
    });
    choose(tabs.find((tab) => tab.getAttribute("aria-selected") === "true") || tabs[0]);
  }
}
