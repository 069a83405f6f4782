// The menu "Run until": each thing a run can stop at, backward and forward.

import { written } from "./run.js";
import { button, h } from "./nodes.js";
import { Menu } from "./menu.js";
import { places, runUntil, stopsAt, TARGETS } from "./until.js";

/** Goes where it is told by itself: `player` needs run, cursor, limit(), travel(step) and tell(sentence). */
export class UntilMenu extends Menu {
  constructor(player) {
    const rows = h("div", "vl-until");
    super("until", "Run until", "Run until… (U)", rows);
    this.player = player;
    this.last = ["delivery", null, "a delivery"];
    this.line = h("select", "", { "aria-label": "Line of the code" });
    for (const [address, label, text] of places(player.run))
      this.line.append(
        h("option", "", { value: String(address) }, `${label ? `${label}: ` : ""}${written("address", address)} ${text}`),
      );
    const hint = `${player.run.kvm ? "v_nmi_pending" : "nmi_mask"} == 1 and gif == 0`;
    this.typed = h("input", "", {
      type: "text",
      "aria-label": "Condition",
      placeholder: hint,
      spellcheck: "false",
      autocomplete: "off",
      maxlength: "500",
    });
    this.typed.addEventListener("keydown", (event) => {
      if (event.key === "Enter") this.go("condition", event.shiftKey ? -1 : 1);
    });
    this.wrong = h("p", "vl-wrong", { role: "alert", hidden: "" });
    const guest = player.run.p.kinds.includes("vmrun");
    const possible = TARGETS.filter(([target]) => guest || (target !== "exit" && target !== "vmrun"));
    for (const [target, name] of possible) rows.append(...this.row(target, name));
    this.panel.append(
      this.wrong,
      h("p", "vl-hint", {}, "A condition stops where it becomes true. R runs again, Shift + R back."),
    );
  }
  row(target, name) {
    const own = { line: this.line, condition: this.typed }[target];
    const way = (icon, to, text) => button(icon, `${text} ${name}`, () => this.go(target, to));
    return [
      h("div", "vl-target", {}, h("span", "", {}, name), ...(own ? [own] : [])),
      way("left", -1, "Back to where"),
      way("right", 1, "On to where"),
    ];
  }
  detail(target) {
    if (target === "line") return [this.line.value, this.line.selectedOptions[0]?.textContent ?? "that line"];
    if (target === "condition") return [this.typed.value, this.typed.value.trim()];
    return [null, TARGETS.find(([id]) => id === target)[1]];
  }
  go(target, way) {
    this.last = [target, ...this.detail(target)];
    this.again(way);
  }
  /** Run to the same as last time, on (1) or back (-1). What cannot be found moves nothing. */
  again(way) {
    const { player } = this;
    const [target, detail, name] = this.last;
    const from = player.cursor;
    this.complain("");
    try {
      const step = runUntil(stopsAt(player.run, target, detail), from, way, player.limit());
      if (step >= 0) player.travel(step);
      player.tell(step < 0 ? `Not found ${way > 0 ? "after" : "before"} step ${from}: ${name}` : `Ran to step ${step}: ${name}`);
    } catch (error) {
      if (error.position === undefined) throw error;
      this.complain(error.message);
      if (this.panel.hidden) player.tell(error.message);
    }
  }
  complain(message) {
    this.wrong.textContent = message;
    this.wrong.hidden = !message;
    this.typed.setAttribute("aria-invalid", String(Boolean(message)));
  }
}
