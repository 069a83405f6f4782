// Which lanes are drawn: hidden, shown, pinned to the top.

import { button, h } from "./nodes.js";
import { Menu } from "./menu.js";

const LANE_NAMES = {
  outside: "stimuli",
  calls: "KVM functions",
  lint: "broken rules",
  world: "world",
  code: "code",
  nmis: "each NMI",
};

/** What the learner chose; a lane nobody spoke of is drawn unless it is quiet, or when all are asked for. */
export class LaneView {
  constructor() {
    this.all = false;
    this.chosen = new Map(); // id: drawn or not
    this.pinned = new Set();
  }
  draws(id, quiet) {
    return this.chosen.get(id) ?? (this.all || !quiet);
  }
  setAll(all) {
    this.all = all;
    this.chosen.clear();
  }
}

/** The menu "Lanes": `lanes` are [id, quiet]; `redraw()` is called after each change. */
export class LaneMenu extends Menu {
  constructor(view, lanes, redraw) {
    const rows = h("div", "vl-lanelist");
    super("choose", "Lanes", "Lanes to show, hide and pin (Shift + L)", rows);
    this.entries = lanes.map(([id, quiet]) => {
      const name = LANE_NAMES[id] || id;
      const box = h("input", "", { type: "checkbox" });
      const pin = button("pin", `Keep ${name} at the top`, () => {
        if (!view.pinned.delete(id)) view.pinned.add(id);
        redraw();
      });
      box.addEventListener("change", () => {
        view.chosen.set(id, box.checked);
        redraw();
      });
      rows.append(h("label", "vl-target", {}, box, h("code", "", {}, name)), pin);
      return [id, quiet, box, pin];
    });
    this.view = view;
    this.show();
  }
  show() {
    for (const [id, quiet, box, pin] of this.entries) {
      box.checked = this.view.draws(id, quiet);
      pin.setAttribute("aria-pressed", String(this.view.pinned.has(id)));
    }
  }
}
