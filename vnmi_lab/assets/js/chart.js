// The scrolling chart: keeps a window painted around what is seen, and the playhead in it.

import { clamp } from "./run.js";
import { h } from "./nodes.js";
import { Gutter, layout } from "./lanes.js";
import { Painter } from "./painter.js";

const FIT_STEPS = 120; // runs up to this long are fitted to the width, longer ones scroll

/** The scrolling chart: keeps a window painted around what is seen, and the playhead in it. */
export class Chart {
  constructor(run, seek) {
    this.run = run;
    this.gutter = new Gutter(run);
    this.veil = h("div", "vl-veil");
    this.playhead = h("div", "vl-playhead");
    this.flag = h("div", "vl-flag", { "aria-hidden": "true" });
    this.cover = h("div", "vl-cover", {}, h("span", "", {}, "hidden until you answer"));
    this.canvas = h("div", "vl-canvas", {}, this.veil, this.playhead, this.flag, this.cover);
    const keys =
      "Timeline. Space plays, arrow keys step, comma and full stop go from event to event, question mark lists the keys.";
    this.scroll = h("div", "vl-scroll", { tabindex: "0", role: "group", "aria-label": keys }, this.canvas);
    this.el = h("div", "vl-chart", {}, this.gutter.el, this.scroll);
    this.all = false;
    this.zoom = 0; // px of one step, 0 to fit
    const scrolled = () => {
      this.paint();
      this.dim();
    };
    this.scroll.addEventListener("scroll", scrolled, { passive: true });
    this.drag(seek);
  }

  drag(seek) {
    const to = (event) => seek(Math.floor((event.clientX - this.canvas.getBoundingClientRect().left) / this.col));
    this.canvas.addEventListener("pointerdown", (event) => {
      if (event.button !== 0) return;
      this.canvas.setPointerCapture(event.pointerId);
      to(event);
    });
    this.canvas.addEventListener("pointermove", (event) => {
      if (this.canvas.hasPointerCapture(event.pointerId)) to(event);
    });
  }

  /** Lay everything out again: after a resize, a zoom, other lanes, or another limit. */
  build(limit) {
    this.limit = limit;
    this.plan = layout(this.run, this.all, limit);
    const seen = this.scroll.clientWidth || 640;
    const steps = this.run.length;
    const fitted = clamp(seen / steps, this.run.kvm ? 28 : 4, 64); // names of functions want room
    this.col = this.zoom || (steps <= FIT_STEPS ? fitted : 12);
    this.canvas.style.width = `${Math.max(this.col * steps, 1)}px`;
    this.canvas.style.height = this.el.style.minHeight = `${this.plan.height}px`;
    this.gutter.build(this.plan);
    const hidden = steps - 1 - limit;
    this.cover.hidden = hidden <= 0;
    this.cover.style.display = hidden > 0 ? "" : "none";
    this.cover.style.left = `${(limit + 1) * this.col}px`;
    this.cover.style.width = `${hidden * this.col}px`;
    this.drawn = null;
    this.paint();
  }

  paint() {
    const [left, seen] = [this.scroll.scrollLeft, this.scroll.clientWidth || 640];
    const end = this.limit + 1;
    const first = clamp(Math.floor(left / this.col), 0, end),
      last = clamp(Math.ceil((left + seen) / this.col), 0, end);
    if (this.drawn && first >= this.drawn.from && last <= this.drawn.to) return;
    const spare = Math.ceil(seen / this.col / 2);
    const from = Math.max(0, first - spare),
      to = Math.min(end, last + spare);
    const svg = new Painter(this.run, this.plan, this.col, from, to).paint();
    if (this.svg) this.svg.replaceWith(svg);
    else this.canvas.prepend(svg);
    this.svg = svg;
    this.drawn = { from, to };
    this.heat();
  }

  /** Dim what is still to come, as far as it can be seen: a veil over 10,000 steps is slow to draw. */
  dim() {
    const seen = this.scroll.clientWidth || 640;
    this.veil.style.width = `${3 * seen}px`;
    this.veil.style.transform = `translateX(${Math.max(this.future, this.scroll.scrollLeft - seen)}px)`;
  }

  heat() {
    for (const group of this.svg.querySelectorAll(".vl-cause")) {
      const hot = +group.dataset.from === this.step || +group.dataset.to === this.step;
      group.querySelector(".vl-link").classList.toggle("vl-hot", hot);
    }
  }

  show(step) {
    this.step = step;
    const width = Math.max(this.col, 6);
    const x = step * this.col - (width - this.col) / 2;
    this.playhead.style.width = `${width}px`;
    this.playhead.style.transform = `translateX(${x}px)`;
    this.future = x + width;
    this.dim();
    this.flag.textContent = `${step}  ${this.run.text(step)}`;
    this.gutter.show(step);
    this.follow(x, width);
    const [left, seen] = [this.scroll.scrollLeft, Math.min(this.scroll.clientWidth || 640, this.col * this.run.length)];
    const flag = this.flag.offsetWidth;
    this.flag.style.transform = `translateX(${clamp(x + (width - flag) / 2, left, Math.max(left, left + seen - flag))}px)`;
    this.heat();
  }

  /** Turn the page when the playhead leaves what is seen. */
  follow(x, width) {
    const [left, seen] = [this.scroll.scrollLeft, this.scroll.clientWidth];
    if (x < left + 8) this.scroll.scrollLeft = Math.max(0, x - seen * 0.8);
    else if (x + width > left + seen - 8) this.scroll.scrollLeft = x - seen * 0.2;
    this.paint();
  }
}
