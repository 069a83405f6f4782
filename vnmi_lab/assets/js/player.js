// The player: chart, panels and controls, and the one cursor they share.

import { clamp, Run } from "./run.js";
import { button, h, press, theme, watchTheme } from "./nodes.js";
import { Bar } from "./bar.js";
import { Chart } from "./chart.js";
import { Flags } from "./flags.js";
import { keyAction, keySheet } from "./keys.js";
import { LaneMenu } from "./lanemenu.js";
import { laneIds } from "./lanes.js";
import { Link } from "./link.js";
import { loopOver } from "./marks.js";
import { SaveMenu } from "./download.js";
import { beat, Teller } from "./pace.js";
import { CodePanel, ProcessorPanel, StackPanel, StepPanel } from "./panels.js";
import { Tools } from "./tools.js";
import { runUntil, stopsAt } from "./until.js";
import { WhyPanel } from "./why.js";

export class Player {
  /** `before` is what the player of the beginning of this run kept: this one goes on from there. */
  constructor(model, payload, root, before = null) {
    Object.assign(this, { model, root, run: new Run(payload), playing: false, speed: 2, counts: "steps" });
    Object.assign(this, { cursor: 0, sub: null, micro: false, looping: false, marks: { a: null, b: null } });
    const kept = before?.whole === this.run.length && before.title === this.run.p.title ? before : null;
    Object.assign(this, kept?.settings);
    this.undo = [];
    this.teller = new Teller(model, () => this.cursor);
    root.classList.add("vnmi-player");
    root.classList.toggle("vl-kvm", this.run.kvm);
    root.setAttribute("role", "region");
    root.setAttribute("aria-label", `Timeline: ${this.run.p.title}`);
    const travel = (step) => this.travel(step);
    this.chart = new Chart(this.run, travel);
    Object.assign(this.chart, kept?.chart);
    this.bar = new Bar(this);
    this.tools = new Tools(this);
    this.why = new WhyPanel(this.run, travel, () => this.limit());
    const panels = [this.why, ...[StepPanel, CodePanel, ProcessorPanel, StackPanel].map((View) => new View(this.run))];
    panels[1].choose = (sub) => this.seek(this.cursor, { sub });
    this.views = [this.chart, ...panels, this.bar, this.tools];
    this.live = h("div", "vl-hidden", { "aria-live": "polite", role: "status" });
    this.keys = keySheet();
    this.left = h("div", "vl-left", {}, this.chart.el, this.bar.el, this.tools.el);
    const body = h("div", "vl-body", {}, this.left, ...panels.map((view) => view.el));
    root.replaceChildren(this.top(), body, this.keys, this.live);
    this.listen();
    this.cursor = kept?.cursor ?? clamp(Math.trunc(model.get("cursor") || 0), 0, this.limit());
    this.flags = new Flags(this);
    this.views.push(this.flags);
    this.chart.built = () => this.flags.build();
    this.build();
    this.chart.scroll.scrollLeft = kept?.left ?? this.chart.scroll.scrollLeft;
    root.dataset.playing = "false";
    root.dataset.coming = this.run.whole - this.run.length;
    root.dataset.ready = "true";
    if (kept?.playing) this.start();
  }

  /** What the player of the whole run takes over from this one, which has only its beginning. */
  keep() {
    const { run, chart, cursor, sub, micro, looping, marks, speed, counts, playing } = this;
    const { lanes, zoom, scroll } = chart;
    return {
      ...{ whole: run.whole, title: run.p.title, cursor, playing, left: scroll.scrollLeft },
      settings: { sub, micro, looping, marks, speed, counts },
      chart: { lanes, zoom, marks },
    };
  }

  /** The last step that may be shown. */
  limit() {
    const last = this.run.length - 1;
    return clamp(this.model.get("visible_until") ?? this.run.p.visible_until ?? last, 0, last);
  }

  // building

  top() {
    const zoom = (factor) => () => this.zoom(factor);
    this.lanes = button("lanes", "All lanes (L)", () => this.toggleLanes());
    this.lanes.append("All lanes");
    this.lanes.setAttribute("aria-pressed", String(this.chart.lanes.all));
    this.lanes.hidden = !this.run.p.waves.some((wave) => wave.quiet);
    this.laneMenu = new LaneMenu(this.chart.lanes, laneIds(this.run), () => this.build());
    this.saving = new SaveMenu(this.model, (sentence) => this.tell(sentence));
    this.help = button("help", "Keys (?)", () => this.toggleKeys());
    this.help.setAttribute("aria-expanded", "false");
    const view = h(
      "div",
      "vl-group",
      { role: "group", "aria-label": "View" },
      this.lanes,
      this.laneMenu.el,
      button("out", "Zoom out (-)", zoom(1 / 1.4)),
      button("fit", "Fit to the width (0)", zoom(0)),
      button("in", "Zoom in (+)", zoom(1.4)),
      this.saving.el,
      this.help,
    );
    this.title = h("div", "vl-title", { role: "heading", "aria-level": "2" }, this.run.p.title);
    return h("div", "vl-top", {}, this.title, view);
  }

  build() {
    const limit = this.limit();
    this.bar.build(limit);
    this.chart.build(limit);
    this.laneMenu.show();
    this.saving.show(limit < this.run.whole - 1);
    this.seek(this.cursor, { jump: true, save: false, sub: this.sub });
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
    on(root, "keydown", (event) => press(event, () => keyAction(this, event)));
    on(document, "pointerdown", ({ target }) => [this.tools.until, this.laneMenu, this.saving].forEach((menu) => menu.leave(target)));
    watch("change:cursor", () => {
      if (!this.playing && model.get("cursor") !== this.cursor) this.seek(model.get("cursor"), { save: false });
    });
    watch("change:visible_until", () => {
      this.pause();
      this.build();
    });
    this.link = new Link(model.get("link") || "", this.run, (step) => {
      this.pause();
      this.seek(step, { linked: true });
    });
    watch("change:link", () => {
      this.link.name = model.get("link") || "";
    });
    on(matchMedia("print"), "change", ({ matches }) => this.print(matches));
    on(window, "beforeprint", () => this.print(true));
    on(window, "afterprint", () => this.print(false));
    const size = new ResizeObserver(() => {
      const seen = this.chart.scroll.clientWidth;
      if (seen && seen !== this.chart.width) this.build();
    });
    size.observe(this.chart.scroll);
    this.undo.push(
      () => size.disconnect(),
      () => this.link.close(),
      () => this.saving.close(),
      watchTheme((name) => {
        root.dataset.theme = name;
      }),
    );
    this.still = matchMedia("(prefers-reduced-motion: reduce)");
  }

  // moving

  /** Show a step, or with `sub` what it looks like inside; tell the other timelines of this name. */
  seek(step, { jump = false, save = true, sub = null, linked = false } = {}) {
    this.cursor = clamp(Number.isFinite(step) ? step : this.cursor, 0, this.limit());
    const subs = this.micro ? this.run.subs(this.cursor).length : 0;
    this.sub = subs ? clamp(sub ?? subs - 1, 0, subs - 1) : null;
    this.run.look(this.cursor, this.sub);
    this.root.classList.toggle("vl-jump", jump || this.still.matches);
    for (const view of this.views) view.show(this.cursor);
    this.root.dataset.cursor = this.cursor;
    this.root.dataset.sub = this.sub ?? "";
    this.say();
    if (save && !this.playing) this.teller.tell();
    if (save && !linked) this.link.tell(this.cursor);
  }

  /** Go to a step because somebody asked for it: play stops. */
  travel(step) {
    this.pause();
    this.seek(step);
  }

  /** Whether the step is shown whole, not one of its sub-steps before the last. */
  whole() {
    return this.sub === null || this.sub === this.run.subs(this.cursor).length - 1;
  }

  /** Some steps on or back; where steps are looked into, one is one sub-step. */
  walk(count) {
    this.pause();
    if (Math.abs(count) > 1) this.seek(this.cursor + count);
    else this.advance(count);
  }

  advance(way, options = {}) {
    const inside = this.sub === null ? -1 : this.sub + way;
    if (inside >= 0 && inside < this.run.subs(this.cursor).length) this.seek(this.cursor, { ...options, sub: inside });
    else if (this.cursor + way >= 0 && this.cursor + way <= this.limit())
      this.seek(this.cursor + way, { ...options, sub: way > 0 ? 0 : null });
  }

  /** The previous or next event that may be shown; the first or last step when there is none. */
  event(way, from = this.cursor) {
    const { events } = this.run.p;
    const found = way > 0 ? events.find((step) => step > from) : events.findLast((step) => step < from);
    return found === undefined ? (way > 0 ? this.limit() : 0) : Math.min(found, this.limit());
  }

  toExit(way) {
    const step = runUntil(stopsAt(this.run, "exit"), this.cursor, way, this.limit());
    if (step >= 0) this.travel(step);
    else this.tell(`No #VMEXIT ${way > 0 ? "after" : "before"} step ${this.cursor}.`);
  }

  // playing

  toggle() {
    if (this.playing) this.pause();
    else this.start();
  }

  start() {
    const [low, high] = this.span();
    if (this.cursor >= high || (this.looping && this.cursor < low)) this.seek(low, { jump: true, save: false });
    if (low === high) return;
    this.playing = true;
    this.face();
    this.halt = beat(
      () => this.speed,
      (count) => {
        this.tick(count);
        return this.playing;
      },
    );
  }

  tick(count) {
    const [low, high] = this.span();
    const options = { jump: this.speed > 20 };
    const over = this.cursor >= high && this.whole();
    if (over && this.looping) this.seek(low, { jump: true, sub: 0 });
    else if (this.counts === "events") this.seek(Math.min(this.eventsOn(count), high), options);
    else if (this.micro) for (let n = 0; n < count; n++) this.advance(1, options);
    else this.seek(Math.min(this.cursor + count, high), options);
    if (!this.looping && this.cursor >= high && this.whole()) this.pause();
  }

  /** The step that is so many events on. */
  eventsOn(count) {
    let step = this.cursor;
    for (let n = 0; n < count && step < this.limit(); n++) step = this.event(1, step);
    return step;
  }

  /** The first and last step that play goes over. */
  span() {
    return this.looping ? loopOver(this.marks, this.limit()) : [0, this.limit()];
  }

  pause() {
    if (!this.playing) return;
    this.playing = false;
    this.halt();
    this.face();
    this.say(true);
    this.teller.tell();
  }

  face() {
    this.bar.face(this.playing);
    this.root.dataset.playing = String(this.playing);
  }

  /** So many steps or events a second. */
  setSpeed(speed, counts) {
    Object.assign(this, { speed, counts });
    this.root.style.setProperty("--vl-motion", `${Math.min(140, 500 / speed)}ms`);
  }

  toggleLoop() {
    this.looping = !this.looping;
    this.tools.loop.setAttribute("aria-pressed", String(this.looping));
  }

  toggleMicro() {
    if (!this.run.micro.size) return this.tell("This run has no sub-steps.");
    this.micro = !this.micro;
    this.tools.micro.setAttribute("aria-pressed", String(this.micro));
    return this.seek(this.cursor);
  }

  // markers

  /** Set a marker at the cursor; where it stands already, take it away. */
  setMark(which) {
    this.marks[which] = this.marks[which] === this.cursor ? null : this.cursor;
    this.chart.mark(this.marks);
    this.tools.marks();
    const [name, here] = [which.toUpperCase(), this.marks[which]];
    this.tell(here === null ? `Marker ${name} is gone.` : `Marker ${name} is at step ${here}.`);
  }

  toMark(which) {
    if (this.marks[which] === null) this.tell(`Marker ${which.toUpperCase()} is not set.`);
    else this.travel(this.marks[which]);
  }

  focusMarks() {
    const { a, b } = this.marks;
    if (a === null || b === null) this.tell("Set markers A and B first.");
    else this.chart.focus(Math.min(a, b), Math.max(a, b));
  }

  // saying

  /** Tell the reader of the page; in play at most every two seconds. */
  say(now = false) {
    const time = performance.now();
    if (this.playing && !now && time - (this.said || -Infinity) < 2000) return;
    this.said = time;
    const place = this.sub === null ? "" : `, sub-step ${this.sub + 1} of ${this.run.subs(this.cursor).length}`;
    this.live.textContent = `Step ${this.cursor}${place}: ${this.run.saying(this.cursor)[1]}`;
  }

  /** Say what came of a command, until the cursor moves on. */
  tell(sentence) {
    this.tools.tell(sentence);
    this.live.textContent = sentence;
  }

  // looking

  zoom(factor) {
    this.chart.magnify(factor);
  }

  toggleLanes() {
    const { lanes } = this.chart;
    lanes.setAll(!lanes.all);
    this.lanes.setAttribute("aria-pressed", String(lanes.all));
    this.build();
  }

  toggleKeys(open = this.keys.hidden) {
    this.keys.hidden = !open;
    this.help.setAttribute("aria-expanded", String(open));
  }

  /** On paper: a still picture in the light palette; of a long run the steps around the cursor, which the title says. */
  print(on) {
    this.chart.print(on);
    const { from, to } = this.chart.paper ?? {};
    this.title.dataset.printed = on && to - from <= this.limit() ? ` (steps ${from} to ${to - 1} of ${this.limit()})` : "";
    this.root.dataset.theme = on ? "light" : theme();
    this.chart.show(this.cursor);
  }

  /** Give the focus back to the chart. */
  leave() {
    this.chart.scroll.focus({ preventScroll: true });
  }

  close() {
    this.halt?.();
    this.teller.stop();
    this.playing = false;
    for (const action of this.undo) action();
  }
}
