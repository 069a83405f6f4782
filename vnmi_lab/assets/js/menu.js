// A button that opens a small panel below it.

import { h, named } from "./nodes.js";

/** Escape closes it and gives the focus back to its button; the focus may leave it at any time. */
export class Menu {
  constructor(icon, text, label, ...content) {
    this.button = named(icon, text, label, () => this.toggle());
    this.button.setAttribute("aria-expanded", "false");
    this.panel = h("div", "vl-pop", { role: "group", "aria-label": text, hidden: "" }, ...content);
    this.el = h("div", "vl-menu", {}, this.button, this.panel);
    this.el.addEventListener("keydown", (event) => {
      if (event.key !== "Escape" || this.panel.hidden) return;
      event.preventDefault();
      event.stopPropagation();
      this.toggle(false);
      this.button.focus();
    });
  }
  toggle(open = this.panel.hidden) {
    this.panel.hidden = !open;
    this.button.setAttribute("aria-expanded", String(open));
    if (!open) return;
    this.place();
    this.panel.querySelector("button, input, select")?.focus({ preventScroll: true });
  }
  /** Below the button, but inside the player. */
  place() {
    this.panel.style.left = "0";
    const frame = this.el.closest(".vnmi-player").getBoundingClientRect();
    const here = this.panel.getBoundingClientRect();
    this.panel.style.left = `${Math.min(0, frame.right - 8 - here.right)}px`;
  }
  /** Close when something outside is pressed. */
  leave(target) {
    if (!this.el.contains(target)) this.toggle(false);
  }
}
