// The player: chart, panels and controls, and the one cursor they share.

import { clamp, Run } from "./run.js";
import { button, h, icon, theme } from "./nodes.js";
import { Chart } from "./chart.js";
import { Flags } from "./flags.js";
import { CodePanel, ProcessorPanel, StackPanel, StepPanel } from "./panels.js";
import { WhyPanel } from "./why.js";

const REST = 200; // ms without a move before the kernel is told
const SPEEDS = [0.5, 1, 2, 5, 10, 20, 60]; // steps per second
const KEYS = [
  ["Space", "play or pause"],
  ["← →", "one step back, one step on"],
  ["Shift + ← →", "ten steps"],
  [", .", "previous, next event"],
  ["Home End", "first, last step"],
  ["+ −", "zoom in, zoom out"],
  ["0", "fit to the width"],
  ["B", "to where what blocks an NMI ends"],
  ["A", "all lanes, or those that move"],
  ["?", "this sheet"],
];

export class Player {
  constructor(model, root) {
    Object.assign(this, { model, root, run: new Run(model.get("payload")), playing: false, speed: 2 });
    this.undo = [];
    root.classList.add("vnmi-player");
    root.classList.toggle("vl-kvm", this.run.kvm);
    root.setAttribute("role", "region");
    root.setAttribute("aria-label", `Timeline: ${this.run.p.title}`);
    const seek = (step) => {
      this.pause();
      this.seek(step);
    };
    this.chart = new Chart(this.run, seek);
    this.why = new WhyPanel(this.run, seek, () => this.limit());
    const panelViews = [StepPanel, CodePanel, ProcessorPanel, StackPanel].map((View) => new View(this.run));
    this.views = [this.chart, this.why, ...panelViews];
    const panels = this.views.slice(1).map((view) => view.el);
    this.live = h("div", "vl-hidden", { "aria-live": "polite", role: "status" });
    this.left = h("div", "vl-left", {}, this.chart.el, this.controls());
    root.replaceChildren(this.top(), h("div", "vl-body", {}, this.left, ...panels), this.sheet(), this.live);
    this.listen();
    this.cursor = clamp(Math.trunc(model.get("cursor") || 0), 0, this.limit());
    this.flags = new Flags(this);
    this.views.push(this.flags);
    this.build();
    root.dataset.playing = "false";
    root.dataset.ready = "true";
  }

  /** The last step that may be shown. */
  limit() {
    const last = this.run.length - 1;
    return clamp(this.model.get("visible_until") ?? this.run.p.visible_until ?? last, 0, last);
  }

  // building

  top() {
    const zoom = (factor) => () => this.zoom(factor);
    this.lanes = button("lanes", "All lanes (A)", () => this.toggleLanes());
    this.lanes.append("All lanes");
    this.lanes.setAttribute("aria-pressed", "false");
    this.lanes.hidden = !this.run.p.waves.some((wave) => wave.quiet);
    this.help = button("help", "Keys (?)", () => this.toggleKeys());
    this.help.setAttribute("aria-expanded", "false");
    const view = h(
      "div",
      "vl-group",
      { role: "group", "aria-label": "View" },
      this.lanes,
      button("out", "Zoom out (-)", zoom(1 / 1.4)),
      button("fit", "Fit to the width (0)", zoom(0)),
      button("in", "Zoom in (+)", zoom(1.4)),
      this.help,
    );
    return h("div", "vl-top", {}, h("div", "vl-title", { role: "heading", "aria-level": "2" }, this.run.p.title), view);
  }

  controls() {
    const go = (target) => () => {
      this.pause();
      this.seek(target());
    };
    this.first = button(
      "first",
      "First step (Home)",
      go(() => 0),
    );
    this.back = button(
      "back",
      "Step back (left arrow)",
      go(() => this.cursor - 1),
    );
    this.play = button("play", "Play (space)", () => this.toggle(), "vl-play");
    this.step = button(
      "step",
      "Step (right arrow)",
      go(() => this.cursor + 1),
    );
    this.last = button(
      "last",
      "Last step (End)",
      go(() => this.limit()),
    );
    this.prev = button(
      "prev",
      "Previous event (comma)",
      go(() => this.event(-1)),
    );
    this.next = button(
      "next",
      "Next event (full stop)",
      go(() => this.event(1)),
    );
    this.scrub = h("input", "vl-scrub", { type: "range", min: "0", step: "1", "aria-label": "Step" });
    this.scrub.addEventListener(
      "input",
      go(() => +this.scrub.value),
    );
    this.goto = h("input", "", { type: "number", min: "0", "aria-label": "Go to step" });
    this.goto.addEventListener(
      "change",
      go(() => (this.goto.value === "" ? this.cursor : Math.trunc(+this.goto.value))),
    );
    this.total = h("span");
    this.pace = h("select", "", { "aria-label": "Speed in steps per second" });
    for (const speed of SPEEDS)
      this.pace.append(
        h("option", "", { value: speed, ...(speed === this.speed ? { selected: "" } : {}) }, String(speed)),
      );
    this.pace.addEventListener("change", () => this.setSpeed(+this.pace.value));
    const group = (label, ...nodes) => h("div", "vl-group", { role: "group", "aria-label": label }, ...nodes);
    return h(
      "div",
      "vl-bar",
      { role: "group", "aria-label": "Controls" },
      group("Steps", this.first, this.back, this.play, this.step, this.last),
      group("Events", this.prev, this.next),
      this.scrub,
      h("label", "vl-label", {}, "step", this.goto, this.total),
      h("label", "vl-label", {}, this.pace, "steps/s"),
    );
  }

  sheet() {
    const rows = KEYS.flatMap(([keys, what]) => [h("dt", "", {}, keys), h("dd", "", {}, what)]);
    this.keys = h(
      "div",
      "vl-keys",
      { role: "group", "aria-label": "Keys", hidden: "" },
      h("h3", "vl-heading", {}, "Keys, when the timeline has the focus"),
      h("dl", "vl-sheet", {}, ...rows),
    );
    return this.keys;
  }

  build() {
    const limit = this.limit();
    this.scrub.max = this.goto.max = limit;
    this.total.textContent = `of ${limit}`;
    this.chart.build(limit);
    this.flags.build();
    this.seek(this.cursor, { jump: true, save: false });
  }

  listen() {
    const { model, root } = this;
    const on = (target, name, action) => {
      target.addEventListener(name, action);
      this.undo.push(() => target.removeEventListener(name, action));
    };
    const watch = (name, action) => {
      model.on(name, action);
      this.undo.push(() => model.off(name, action));
    };
    on(root, "keydown", (event) => this.key(event));
    watch("change:cursor", () => {
      if (!this.playing && model.get("cursor") !== this.cursor) this.seek(model.get("cursor"), { save: false });
    });
    watch("change:visible_until", () => {
      this.pause();
      this.build();
    });
    const paint = () => {
      root.dataset.theme = theme();
    };
    const body = new MutationObserver(paint);
    body.observe(document.body, {
      attributes: true,
      attributeFilter: ["data-jp-theme-light", "data-vscode-theme-kind"],
    });
    on(matchMedia("(prefers-color-scheme: dark)"), "change", paint);
    let width = 0;
    const size = new ResizeObserver(() => {
      const seen = this.chart.scroll.clientWidth;
      if (seen && seen !== width) {
        width = seen;
        this.build();
      }
    });
    size.observe(this.chart.scroll);
    this.undo.push(
      () => body.disconnect(),
      () => size.disconnect(),
    );
    this.still = matchMedia("(prefers-reduced-motion: reduce)");
    paint();
  }

  // moving

  seek(step, { jump = false, save = true } = {}) {
    const limit = this.limit();
    this.cursor = clamp(Number.isFinite(step) ? step : this.cursor, 0, limit);
    this.root.classList.toggle("vl-jump", jump || this.still.matches);
    for (const view of this.views) view.show(this.cursor);
    this.scrub.value = this.cursor;
    this.scrub.setAttribute("aria-valuetext", `${this.cursor} of ${limit}: ${this.run.text(this.cursor)}`);
    if (document.activeElement !== this.goto || !this.playing) this.goto.value = this.cursor;
    this.root.dataset.cursor = this.cursor;
    const [start, end] = [this.cursor === 0, this.cursor === limit];
    for (const node of [this.first, this.back, this.prev]) node.setAttribute("aria-disabled", String(start));
    for (const node of [this.step, this.last, this.next]) node.setAttribute("aria-disabled", String(end));
    this.say();
    if (save && !this.playing) this.save();
  }

  /** The previous or next event that may be shown; the first or last step when there is none. */
  event(way) {
    const { events } = this.run.p;
    const found = way > 0 ? events.find((step) => step > this.cursor) : events.findLast((step) => step < this.cursor);
    return found === undefined ? (way > 0 ? this.limit() : 0) : Math.min(found, this.limit());
  }

  toggle() {
    if (this.playing) this.pause();
    else this.start();
  }

  start() {
    if (this.cursor >= this.limit()) this.seek(0, { jump: true, save: false });
    if (this.limit() === 0) return;
    this.playing = true;
    this.face("pause", "Pause (space)");
    let before = null,
      owed = 0;
    const tick = (time) => {
      owed += before === null ? 0 : (Math.min(time - before, 1000) / 1000) * this.speed;
      before = time;
      const whole = Math.floor(owed);
      owed -= whole;
      if (whole) this.seek(this.cursor + whole, { jump: this.speed > 20 });
      if (this.cursor >= this.limit()) this.pause();
      else if (this.playing) this.frame = requestAnimationFrame(tick);
    };
    this.frame = requestAnimationFrame(tick);
  }

  pause() {
    if (!this.playing) return;
    this.playing = false;
    cancelAnimationFrame(this.frame);
    this.face("play", "Play (space)");
    this.say(true);
    this.save();
  }

  face(name, label) {
    this.play.replaceChildren(icon(name));
    this.play.setAttribute("aria-label", label);
    this.play.title = label;
    this.root.dataset.playing = String(this.playing);
  }

  setSpeed(speed) {
    this.speed = speed;
    this.root.style.setProperty("--vl-motion", `${Math.min(140, 500 / speed)}ms`);
  }

  /** Tell the reader of the page; in play at most every two seconds. */
  say(now = false) {
    const time = performance.now();
    if (this.playing && !now && time - (this.said || -Infinity) < 2000) return;
    this.said = time;
    this.live.textContent = `Step ${this.cursor}: ${this.run.sentence(this.cursor)}`;
  }

  /** Tell the kernel where we are, once we have rested there. A dead kernel does not matter. */
  save() {
    clearTimeout(this.later);
    this.later = setTimeout(() => {
      if (this.model.get("cursor") === this.cursor) return;
      try {
        this.model.set("cursor", this.cursor);
        this.model.save_changes();
      } catch (error) {
        console.warn("timeline: cursor not saved", error);
      }
    }, REST);
  }

  // looking

  zoom(factor) {
    const col = factor ? clamp(this.chart.col * factor, 3, 96) : 0;
    this.chart.zoom = factor ? col : clamp((this.chart.scroll.clientWidth || 640) / this.run.length, 3, 64);
    this.build();
    const { scroll } = this.chart;
    if (factor) scroll.scrollLeft = (this.cursor + 0.5) * this.chart.col - scroll.clientWidth / 2;
    this.chart.show(this.cursor);
  }

  toggleLanes() {
    this.chart.all = !this.chart.all;
    this.lanes.setAttribute("aria-pressed", String(this.chart.all));
    this.build();
  }

  toggleKeys(open = this.keys.hidden) {
    this.keys.hidden = !open;
    this.help.setAttribute("aria-expanded", String(open));
  }

  /** Keys belong to the player only while it has the focus; Tab is never taken. */
  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const typing = event.target === this.goto || event.target === this.pace;
    const pressing = event.target.closest("button, summary") && (event.key === " " || event.key === "Enter");
    if (event.key !== "Tab") event.stopPropagation();
    const action = !typing && !pressing && this.action(event);
    if (!action) return;
    event.preventDefault();
    action();
  }

  action({ key, shiftKey }) {
    const by = (count) => () => {
      this.pause();
      this.seek(this.cursor + count);
    };
    const to = (target) => () => {
      this.pause();
      this.seek(target());
    };
    return {
      " ": () => this.toggle(),
      ArrowRight: by(shiftKey ? 10 : 1),
      ArrowLeft: by(shiftKey ? -10 : -1),
      Home: to(() => 0),
      End: to(() => this.limit()),
      ",": to(() => this.event(-1)),
      ".": to(() => this.event(1)),
      "+": () => this.zoom(1.4),
      "=": () => this.zoom(1.4),
      "-": () => this.zoom(1 / 1.4),
      0: () => this.zoom(0),
      b: to(() => this.why.end() ?? this.cursor),
      B: to(() => this.why.end() ?? this.cursor),
      a: () => this.toggleLanes(),
      A: () => this.toggleLanes(),
      "?": () => this.toggleKeys(),
      Escape: this.keys.hidden ? undefined : () => this.toggleKeys(false),
    }[key];
  }

  close() {
    cancelAnimationFrame(this.frame);
    clearTimeout(this.later);
    this.playing = false;
    for (const action of this.undo) action();
  }
}
