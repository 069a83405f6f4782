// Flags on the chart: what a learner said and what the machine did; and a mode in which a step is pointed at.

import { keepKeys } from "./keep.js";
import { clamp } from "./run.js";
import { h } from "./nodes.js";
import { say } from "./said.js";

const FLAG_ROW = 24; // px, one row of flags
const FLAG_KINDS = new Set(["given", "you", "machine"]);

/**
 * The traits `flags` ([step, kind, text]), `placing` (what is to be placed, "" for nothing) and `placed` (the step).
 * A click on the chart, Enter at the cursor, or the button places.
 */
export class Flags {
  constructor(player) {
    Object.assign(this, { player, model: player.model, chart: player.chart });
    this.strip = h("div", "vl-flags");
    this.poles = h("div", "vl-poles", { "aria-hidden": "true" });
    this.chart.scroll.prepend(this.strip);
    this.chart.canvas.append(this.poles);
    this.here = h("button", "vl-button vl-here", { type: "button" });
    this.mine = null; // the step that was pointed at, until the kernel knows
    this.shown = []; // the flags, in the order of their nodes
    this.hint = h("span");
    this.bar = h("div", "vl-place", { role: "group" }, this.here, this.hint);
    player.left.prepend(this.bar);
    const on = (target, name, action) => {
      target.addEventListener(name, action);
      player.undo.push(() => target.removeEventListener(name, action));
    };
    player.undo.push(keepKeys());
    on(this.here, "click", () => this.place(player.cursor));
    on(this.chart.canvas, "click", (event) => {
      const left = this.chart.canvas.getBoundingClientRect().left;
      if (this.placing()) this.place(Math.floor((event.clientX - left) / this.chart.col));
    });
    on(this.chart.scroll, "scroll", () => this.arrange());
    on(this.chart.scroll, "keydown", (event) => {
      if (event.key !== "Enter" || !this.placing()) return;
      event.preventDefault();
      this.place(player.cursor);
    });
    for (const name of ["flags", "placing", "placed"]) {
      const action = () => {
        const told = name === "placing" || [this.mine, null].includes(this.model.get("placed"));
        if (name !== "flags" && told) this.mine = null; // the kernel knows now; it may be at an earlier thought yet
        this.build();
        if (name === "placing" && this.placing()) this.chart.scroll.focus(); // asked for: the keys are wanted here
      };
      this.model.on(`change:${name}`, action);
      player.undo.push(() => this.model.off(`change:${name}`, action));
    }
  }

  placing() {
    return this.model.get("placing") || "";
  }

  place(step) {
    const placed = clamp(step, 0, this.player.limit());
    this.player.seek(placed);
    this.mine = placed;
    say(this.chart.el, { placed });
    this.model.send({ placed });
    this.build();
  }

  /** All flags that may be seen, with the one that is being placed. */
  all() {
    const placed = this.mine ?? this.model.get("placed");
    return flagsSeen(this.model.get("flags") || [], this.placing(), placed, this.player.limit());
  }

  build() {
    const what = this.placing();
    this.bar.hidden = !what;
    this.bar.setAttribute("aria-label", `Place: ${what}`);
    this.hint.textContent = `“${what}”: click a step, or go there with the arrow keys and press Enter.`;
    this.chart.el.classList.toggle("vl-placing", Boolean(what));
    const flags = this.all();
    this.shown = flags;
    this.strip.style.width = this.chart.canvas.style.width;
    this.strip.replaceChildren(...flags.map(flagNode));
    this.poles.replaceChildren(...flags.map(([, kind]) => h("div", `vl-pole vl-flag-${kindOf(kind)}`)));
    this.arrange();
    this.show(this.player.cursor);
  }

  /** Give each flag a row; it stands at the beginning of its step, and its text is moved into what can be seen. */
  arrange() {
    const { scroll, col } = this.chart;
    const [first, seen] = [scroll.scrollLeft, scroll.clientWidth || 640];
    this.shown.forEach(([step], row) => {
      const [node, pole] = [this.strip.children[row], this.poles.children[row]];
      const x = step * col;
      const inside = x >= first && x <= first + seen;
      const left = inside ? clamp(x, first, Math.max(first, first + seen - node.offsetWidth)) : x;
      node.style.left = `${left}px`;
      node.style.top = `${row * FLAG_ROW + 2}px`;
      pole.style.left = `${x - 1}px`;
    });
    this.strip.style.height = this.chart.gutter.el.style.marginTop = `${this.shown.length * FLAG_ROW}px`;
  }

  show(step) {
    this.here.textContent = `Place it at step ${step}`;
  }
}

/** Of some flags those up to a step, and the one that is being placed: `placing` says what, `placed` where, or null. */
export function flagsSeen(given, placing, placed, limit) {
  const mine = placing && Number.isInteger(placed) ? [[placed, "you", placing]] : [];
  return [...given, ...mine].filter(([step]) => step <= limit);
}

/** What a flag says: whose it is, and its text. */
export function flagSaid([, kind, text]) {
  const lead = { given: "", you: "you: ", machine: "the machine: " }[kindOf(kind)];
  return `${lead}${text}`;
}

function kindOf(kind) {
  return FLAG_KINDS.has(kind) ? kind : "given";
}

function flagNode(flag) {
  const [step, kind] = flag;
  return h("div", `vl-pennant vl-flag-${kindOf(kind)}`, { "data-step": step, title: `step ${step}` }, flagSaid(flag));
}
