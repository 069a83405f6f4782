// The scrolling chart: keeps a window painted around what is seen, and the playhead in it.

import { clamp } from "./run.js";
import { h, put } from "./nodes.js";
import { between, inWords } from "./marks.js";
import { LaneView } from "./lanemenu.js";
import { Gutter, layout } from "./lanes.js";
import { Painter } from "./painter.js";

const FIT_STEPS = 120; // runs up to this long are fitted to the width, longer ones scroll
const NEARLY = 0.9; // rather a little too narrow than a few px to scroll
const MOST_ZOOM = 96; // px of one step
const LEAST_ZOOM = 3;
const FOOT = 22; // px below the lanes, for the markers' names
const LABEL = 240; // px, the widest label of the playhead: player.css gives the canvas room for it
const PAPER = 700; // px, about the width of a sheet within its margins
const PAPER_STEPS = 120; // so many steps are printed at most, those around the cursor

/** The scrolling chart: keeps a window painted around what is seen, and the playhead in it. */
export class Chart {
  constructor(run, seek) {
    this.run = run;
    this.gutter = new Gutter(run);
    this.veil = h("div", "vl-veil");
    this.playhead = h("div", "vl-playhead");
    this.flag = h("div", "vl-flag", { "aria-hidden": "true" });
    this.cover = h("div", "vl-cover", {}, h("span"));
    this.marked = h("div", "vl-marked", { "aria-hidden": "true" });
    this.canvas = h("div", "vl-canvas", {}, this.veil, this.marked, this.playhead, this.flag, this.cover);
    const keys =
      "Timeline. Space plays, arrow keys step, comma and full stop go from event to event, question mark lists the keys.";
    this.scroll = h("div", "vl-scroll", { tabindex: "0", role: "group", "aria-label": keys }, this.canvas);
    this.el = h("div", "vl-chart", {}, this.gutter.el, this.scroll);
    this.lanes = new LaneView();
    this.marks = { a: null, b: null };
    this.hits = []; // steps that were searched for
    this.built = () => {}; // called when everything stands somewhere else
    this.zoom = 0; // px of one step, 0 to fit
    const scrolled = () => {
      this.paint();
      this.dim();
    };
    this.scroll.addEventListener("scroll", scrolled, { passive: true });
    this.drag(seek);
  }

  /** Dragging scrubs; with Shift or the middle button it moves what is seen. */
  drag(seek) {
    const { canvas, scroll } = this;
    const to = (event) => {
      const box = canvas.getBoundingClientRect(); // wider than the canvas thinks where a presenter has it enlarged
      seek(Math.floor((((event.clientX - box.left) / box.width) * canvas.offsetWidth) / this.col));
    };
    let held = null;
    canvas.addEventListener("mousedown", (event) => {
      if (event.button === 1) event.preventDefault(); // no scrolling mode of the browser
    });
    canvas.addEventListener("pointerdown", (event) => {
      if (event.button > 1) return;
      canvas.setPointerCapture(event.pointerId);
      held = event.shiftKey || event.button === 1 ? { x: event.clientX, left: scroll.scrollLeft } : null;
      canvas.classList.toggle("vl-panning", held !== null);
      if (!held) to(event);
    });
    canvas.addEventListener("pointermove", (event) => {
      if (!canvas.hasPointerCapture(event.pointerId)) return;
      if (held) scroll.scrollLeft = held.left + held.x - event.clientX;
      else to(event);
    });
    canvas.addEventListener("lostpointercapture", () => canvas.classList.remove("vl-panning"));
  }

  /** Lay everything out again: after a resize, a zoom, other lanes, or another limit. */
  build(limit) {
    this.limit = limit;
    this.width = this.scroll.clientWidth;
    this.plan = layout(this.run, this.lanes, limit);
    const steps = this.run.whole;
    this.col = this.paper ? this.paper.col : this.fitting(steps);
    const foot = this.marks.a === null && this.marks.b === null ? 0 : FOOT;
    this.end = this.col * (this.paper?.to ?? steps);
    this.canvas.style.width = `${this.end}px`; // at least that of a label
    this.canvas.style.height = this.el.style.minHeight = `${this.plan.height + foot}px`;
    this.gutter.build(this.plan);
    const hidden = steps - 1 - limit;
    const coming = limit === this.run.length - 1;
    put(this.cover.firstChild, coming ? "the rest of the run is on its way" : "hidden until you answer");
    this.cover.hidden = hidden <= 0;
    this.cover.style.display = hidden > 0 ? "" : "none";
    this.cover.style.left = `${(limit + 1) * this.col}px`;
    this.cover.style.width = `${hidden * this.col}px`;
    this.drawn = null;
    this.paint();
    this.built();
  }

  fitting(steps) {
    const least = this.run.kvm ? 28 : 4; // names of functions want room
    const fitted = Math.min(this.seen() / steps, 64);
    return this.zoom || (steps > FIT_STEPS ? 12 : fitted < NEARLY * least ? least : fitted);
  }

  /** px of the chart that are seen at a time. */
  seen() {
    return this.scroll.clientWidth || 640;
  }

  paint() {
    const [left, seen] = [this.scroll.scrollLeft, this.seen()];
    if (!this.width && !this.paper) return; // not on the page yet, or hidden: it is built again once it is seen
    const end = this.limit + 1;
    const first = clamp(Math.floor(left / this.col), 0, end),
      last = clamp(Math.ceil((left + seen) / this.col), 0, end);
    if (this.drawn && first >= this.drawn.from && last <= this.drawn.to) return;
    const spare = Math.ceil(seen / this.col / 2);
    const from = Math.max(0, first - spare),
      to = Math.min(end, last + spare);
    this.draw(this.paper ? this.paper.from : from, this.paper ? this.paper.to : to);
  }

  draw(from, to) {
    const svg = new Painter(this.run, this.plan, this.col, from, to).paint();
    if (this.svg) this.svg.replaceWith(svg);
    else this.canvas.prepend(svg);
    this.svg = svg;
    this.drawn = { from, to };
    this.heat();
    this.flagMarks();
  }

  /** Dim what is still to come, as far as it can be seen: a veil over 10,000 steps is slow to draw. */
  dim(left = this.scroll.scrollLeft, seen = this.seen()) {
    const from = Math.max(this.future, left - seen);
    this.veil.style.width = `${clamp(this.end - from, 0, 3 * seen)}px`; // the canvas of a short run is wider than the run
    this.veil.style.transform = `translateX(${from}px)`;
  }

  heat() {
    if (!this.svg) return;
    for (const group of this.svg.querySelectorAll(".vl-cause")) {
      const hot = +group.dataset.from === this.step || +group.dataset.to === this.step;
      group.querySelector(".vl-link").classList.toggle("vl-hot", hot);
    }
  }

  /** Everything is measured before anything is written: each turn from one to the other lays out the page. */
  show(step) {
    this.step = step;
    const width = Math.max(this.col, 6);
    const x = step * this.col - (width - this.col) / 2;
    const { inner } = this.run;
    const subs = this.run.subs(step).length;
    const [left, seen] = [this.follow(x, width), this.seen()];
    this.playhead.style.width = `${width}px`;
    this.playhead.style.transform = `translateX(${x}px)`;
    this.playhead.classList.toggle("vl-within", inner !== null);
    this.playhead.style.setProperty("--vl-sub", inner ? (inner.sub + 1) / subs : 1);
    this.future = x + width;
    this.dim(left, seen);
    this.flag.textContent = `${step}${inner ? ` · ${inner.sub + 1}/${subs}` : ""}  ${this.run.saying(step)[0]}`;
    this.gutter.show(step);
    const right = left + Math.min(seen, Math.max(this.end, LABEL));
    // 100% is the flag's own width
    this.flag.style.transform = `translateX(max(${left}px, min(${x + width / 2}px - 50%, ${right}px - 100%)))`;
    this.heat();
  }

  /** Turn the page when the playhead leaves what is seen; give how far it is scrolled. */
  follow(x, width) {
    const { scroll } = this;
    const [left, seen] = [scroll.scrollLeft, this.seen()];
    if (this.paper) return left;
    if (x < left + 8) scroll.scrollLeft = Math.max(0, x - seen * 0.8);
    else if (x + width > left + seen - 8) scroll.scrollLeft = x - seen * 0.2;
    this.paint();
    return scroll.scrollLeft;
  }

  // looking

  /** Zoom by a factor around the playhead; 0 fits the run to the width. */
  magnify(factor) {
    const fit = clamp(this.seen() / this.run.whole, LEAST_ZOOM, 64);
    this.zoom = factor ? clamp(this.col * factor, LEAST_ZOOM, MOST_ZOOM) : fit;
    this.build(this.limit);
    if (factor) this.scroll.scrollLeft = (this.step + 0.5) * this.col - this.scroll.clientWidth / 2;
    this.show(this.step);
  }

  /** Move what is seen by a part of its width; the playhead stays where it is. */
  pan(part) {
    this.scroll.scrollLeft += part * this.seen();
  }

  /** Zoom to some steps and a little around them. */
  focus(first, last) {
    this.zoom = clamp(this.seen() / (last - first + 3), LEAST_ZOOM, MOST_ZOOM);
    this.build(this.limit);
    this.scroll.scrollLeft = ((first + last + 1) / 2) * this.col - this.seen() / 2;
    this.paint();
    this.dim();
  }

  // markers

  mark(marks) {
    this.marks = marks;
    this.build(this.limit);
    this.show(this.step);
  }

  flagMarks() {
    const { a, b } = this.marks;
    const middle = (step) => (step + 0.5) * this.col;
    const nodes = [];
    if (a !== null && b !== null && a !== b) {
      const [low, high] = [Math.min(a, b), Math.max(a, b)];
      const node = h("div", "vl-between", {}, h("span", "", {}, inWords(between(this.run, a, b))));
      node.style.left = `${middle(low)}px`;
      node.style.width = `${middle(high) - middle(low)}px`;
      nodes.push(node);
    }
    for (const [which, step] of Object.entries({ a, b })) {
      if (step === null) continue;
      const node = h("div", "vl-marker", { "data-marker": which }, h("b", "", {}, which.toUpperCase()));
      node.style.left = `${middle(step)}px`;
      nodes.push(node);
    }
    const { from, to } = this.drawn;
    for (const step of this.hits.filter((hit) => hit >= from && hit < to)) {
      const node = h("div", "vl-hit");
      node.style.left = `${middle(step)}px`;
      nodes.push(node);
    }
    this.marked.replaceChildren(...nodes);
  }

  /** Show under the step numbers where something was found. */
  found(hits) {
    this.hits = hits;
    this.flagMarks();
  }

  // paper

  /** For printing: all that fits a sheet, fitted to its width, names legible. Afterwards as before. */
  print(on) {
    if (on === Boolean(this.paper)) return;
    const steps = Math.min(this.limit + 1, PAPER_STEPS);
    const from = clamp(this.step - Math.floor(steps / 2), 0, this.limit + 1 - steps);
    const gutter = this.gutter.el.offsetWidth;
    const col = clamp((PAPER - gutter) / steps, this.run.kvm ? 24 : 10, 64);
    this.paper = on ? { from, to: from + steps, col } : null;
    this.el.style.zoom = on ? Math.min(1, PAPER / (gutter + col * steps)) : "";
    this.canvas.style.marginLeft = on ? `${-from * col}px` : "";
    this.build(this.limit);
  }
}
