// Policies side by side: strips on the columns they share, what each does in the column shown, and what it took.

import { clamp } from "./run.js";
import { button, h } from "./nodes.js";
import { draw } from "./shapes.js";
import { Sides } from "./sides.js";
import { mounted, Stage } from "./stage.js";

const NARROWEST = 30; // px of a column
const WIDEST = 64;
const PAPER = 560; // px of a sheet that the strips may take
const KEYS = [
  ["Space", "play or pause"],
  ["← →", "one column back, one on"],
  ["Shift + ← →", "ten columns"],
  [", .", "previous, next difference or arrival"],
  ["D", "where the guest first sees something else"],
  ["Home End", "first, last column"],
  ["?", "this sheet"],
];

class Comparison extends Stage {
  constructor(model, root) {
    const sides = new Sides(model.get("payload")); // what it cannot read it does not listen to
    super(model, root, "column");
    this.sides = sides;
    this.p = this.sides.p;
    this.last = this.sides.last;
    root.classList.add("vl-compare");
    root.setAttribute("aria-label", `Side by side: ${this.p.title}`);
    const sheet = this.sheet(KEYS, "Keys, when the strips have the focus");
    const body = h("div", "vl-compared", {}, this.chart(), this.bar(), this.cards(), this.verdict(), this.table());
    root.replaceChildren(this.top(), body, sheet, this.live);
    this.cursor = clamp(Math.trunc(model.get("cursor") || 0), 0, this.last);
    this.paper = matchMedia("print");
    this.fitted();
    this.on(this.paper, "change", () => this.fit());
    root.dataset.ready = "true";
  }

  top() {
    const title = h("div", "vl-title", { role: "heading", "aria-level": "2" }, this.p.title);
    return h("div", "vl-top", {}, title, h("code", "vl-scenario", {}, this.p.scenario), this.help);
  }

  chart() {
    const { gutter, names, height } = this.p.drawing;
    const beside = h("div", "vl-gutter", {}, draw(names, 1, gutter, height));
    beside.style.flexBasis = `${gutter}px`;
    this.playhead = h("div", "vl-playhead");
    this.flag = h("div", "vl-flag", { "aria-hidden": "true" });
    this.canvas = h("div", "vl-canvas", {}, this.playhead, this.flag);
    const label =
      "Strips, one for each policy. Space plays, arrow keys step, comma and full stop go to differences, question mark lists the keys.";
    this.scroll = h("div", "vl-scroll", { tabindex: "0", role: "group", "aria-label": label }, this.canvas);
    const to = (event) => {
      this.pause();
      this.seek(Math.floor((event.clientX - this.canvas.getBoundingClientRect().left) / this.col));
    };
    this.canvas.addEventListener("pointerdown", (event) => {
      if (event.button !== 0) return;
      this.canvas.setPointerCapture(event.pointerId);
      to(event);
    });
    this.canvas.addEventListener("pointermove", (event) => {
      if (this.canvas.hasPointerCapture(event.pointerId)) to(event);
    });
    const chart = h("div", "vl-chart", {}, beside, this.scroll);
    chart.style.minHeight = `${height}px`;
    return chart;
  }

  bar() {
    const go = (target) => () => {
      this.pause();
      this.seek(target());
    };
    const before = button("prev", "Previous difference (comma)", go(() => this.sides.stop(this.cursor, -1)));
    const after = button("next", "Next difference (full stop)", go(() => this.sides.stop(this.cursor, 1)));
    const split = h("button", "vl-button vl-split", { type: "button" });
    split.addEventListener("click", () => this.diverge());
    const none = this.sides.diverged === null;
    split.textContent = none ? "No divergence" : `First divergence: ${this.sides.diverged}`;
    split.title = none ? "The guest sees the same under all of them" : "Where the guest first sees something else (D)";
    split.setAttribute("aria-disabled", String(none));
    return this.controls(h("div", "vl-group", { role: "group", "aria-label": "Differences" }, before, after, split));
  }

  cards() {
    this.cardNodes = this.p.runs.map((run) => {
      const text = h("b", "vl-doing"),
        place = h("span", "vl-source"),
        sentence = h("p", "vl-sentence");
      const el = h("section", "vl-card", { "aria-label": run.name, tabindex: "0" }, h("h3", "vl-heading", {}, run.name), text, place, sentence);
      return { el, text, place, sentence };
    });
    const cards = h("div", "vl-cards", {}, ...this.cardNodes.map(({ el }) => el));
    cards.style.setProperty("--vl-runs", this.p.runs.length);
    return cards;
  }

  verdict() {
    const said = this.p.verdict.map((line) => h("li", "", {}, line));
    const cut = this.p.runs.filter((run) => run.cut);
    said.push(...cut.map((run) => h("li", "", {}, `${run.name} is shown for its first ${run.steps} steps; it goes on.`)));
    said.push(h("li", "vl-none", {}, "Shaded: where a policy has nothing to do while another one works."));
    return h("ul", "vl-verdict", {}, ...said);
  }

  table() {
    const { head, rows } = this.p.counts;
    const differs = this.sides.differing();
    const top = ["policy", ...head].map((name, i) => h("th", "", { scope: "col", "data-differs": String(differs[i]) }, name));
    const body = rows.map(([name, ...values]) =>
      h(
        "tr",
        "",
        {},
        h("th", "", { scope: "row" }, name),
        ...values.map((value, i) => h("td", "", { "data-differs": String(differs[i + 1]) }, String(value))),
      ),
    );
    const table = h(
      "table",
      "vl-counts",
      {},
      h("caption", "vl-heading", {}, "What it took; in bold where they differ"),
      h("thead", "", {}, h("tr", "", {}, ...top)),
      h("tbody", "", {}, ...body),
    );
    return h("div", "vl-table", { tabindex: "0", role: "group", "aria-label": "Counts" }, table);
  }

  /** Fit the columns to the width, on paper to the sheet's, as long as they can be read; else the strips scroll. */
  fit() {
    const { shapes, height } = this.p.drawing;
    const fitted = clamp((this.scroll.clientWidth || 640) / Math.max(1, this.p.columns), NARROWEST, WIDEST);
    this.col = this.paper.matches ? Math.min(WIDEST, PAPER / Math.max(1, this.p.columns)) : fitted;
    this.paint(shapes, this.p.columns, height);
  }

  draw(column) {
    const x = column * this.col;
    this.playhead.style.width = `${this.col}px`;
    this.playhead.style.transform = `translateX(${x}px)`;
    this.flag.textContent = String(column);
    this.flag.style.transform = `translateX(${x + (this.col - this.flag.offsetWidth) / 2}px)`;
    const { scroll } = this;
    if (x < scroll.scrollLeft) scroll.scrollLeft = x - scroll.clientWidth * 0.8;
    else if (x + this.col > scroll.scrollLeft + scroll.clientWidth) scroll.scrollLeft = x - scroll.clientWidth * 0.2;
    this.cardNodes.forEach((card, run) => {
      const said = this.sides.said(run, column);
      card.el.dataset.here = String(said.here);
      card.text.textContent = said.here ? said.text : said.over ? "At its end" : "Nothing to do here";
      card.place.textContent = said.step < 0 ? `before its ${said.steps} steps` : `step ${said.step} of ${said.steps - 1}`;
      card.sentence.textContent = said.here ? said.sentence : said.step < 0 ? "" : `Its last step: ${said.text}.`;
    });
  }
  sentence(column) {
    return this.sides.sentence(column);
  }
  diverge() {
    if (this.sides.diverged === null) return;
    this.pause();
    this.seek(this.sides.diverged);
  }
  keys(to) {
    return {
      ",": to(() => this.sides.stop(this.cursor, -1)),
      ".": to(() => this.sides.stop(this.cursor, 1)),
      d: () => this.diverge(),
      D: () => this.diverge(),
    };
  }
}

export default { render: mounted(Comparison, "The policies cannot be drawn") };
