// The states that the judge explored: a graph to look at, and the counterexample to walk along.

import { clamp } from "./run.js";
import { h } from "./nodes.js";
import { States } from "./states.js";
import { mounted, Stage } from "./stage.js";

const NARROW = 244; // px of a layer
const WIDE = 300;
const KEYS = [
  ["Space", "play or pause"],
  ["← →", "one step back, one on"],
  ["Home End", "first, last step"],
  ["Esc", "back to the walk from a state looked at"],
  ["?", "this sheet"],
];

class StateGraph extends Stage {
  constructor(model, root) {
    const states = new States(model.get("payload")); // what it cannot read it does not listen to
    super(model, root, states.walks ? "step" : "node");
    Object.assign(this, { states, p: states.p, last: states.last });
    root.classList.add("vl-graph");
    root.setAttribute("aria-label", this.p.title);
    const sheet = this.sheet(KEYS, "Keys, when the graph has the focus");
    const body = h("div", "vl-compared", {}, this.chart(), this.controls(), this.panels(), this.verdict());
    const title = h("div", "vl-title", { role: "heading", "aria-level": "2" }, this.p.title);
    root.replaceChildren(h("div", "vl-top", {}, title, this.help), body, sheet, this.live);
    this.cursor = clamp(Math.trunc(model.get("cursor") || 0), 0, this.last);
    this.fitted();
    root.dataset.ready = "true";
  }

  chart() {
    this.walker = h("div", "vl-walker");
    this.canvas = h("div", "vl-canvas", {}, this.walker);
    const label = "Graph of states. Space plays, arrow keys walk, question mark lists the keys; the ways are listed below.";
    this.scroll = h("div", "vl-scroll", { tabindex: "0", role: "group", "aria-label": label }, this.canvas);
    this.canvas.addEventListener("pointerdown", (event) => {
      if (event.button !== 0) return;
      const box = this.canvas.getBoundingClientRect();
      const node = this.states.at(event.clientX - box.left, event.clientY - box.top, this.col);
      if (node !== null) this.look(node);
    });
    return h("div", "vl-chart", {}, this.scroll);
  }

  panels() {
    this.heading = h("h3", "vl-heading");
    this.doing = h("b", "vl-doing");
    this.saying = h("p", "vl-sentence");
    this.where = h("p", "vl-source");
    this.out = h("ul", "vl-ways", { "aria-label": "Ways on" });
    this.into = h("ul", "vl-ways", { "aria-label": "Ways here" });
    const name = (text) => h("h4", "vl-heading", {}, text);
    return h(
      "div",
      "vl-cards vl-states",
      {},
      h("section", "vl-card", { "aria-label": "This step", tabindex: "0" }, this.heading, this.doing, this.saying, this.where),
      h("section", "vl-card", { "aria-label": "Ways on", tabindex: "0" }, name("From here"), this.out),
      h("section", "vl-card", { "aria-label": "Ways here", tabindex: "0" }, name("To here"), this.into),
    );
  }

  verdict() {
    const said = [this.p.verdict, this.p.note].map((line) => h("li", "", {}, line));
    const list = h("ul", "vl-verdict", {}, ...said);
    if (this.p.scenario) {
      const text = h("input", "vl-scenario", { type: "text", readonly: "", "aria-label": "The counterexample as a scenario" });
      text.value = this.p.scenario;
      text.size = this.p.scenario.length;
      text.addEventListener("focus", () => text.select());
      list.append(h("li", "", {}, h("label", "vl-label", {}, "To see it run: vnmi_lab.show(…) with", text)));
    }
    return list;
  }

  /** Fit the layers to the width, as long as they can be read; else the graph scrolls. */
  fit() {
    const { shapes, height, columns } = this.p.drawing;
    this.col = clamp((this.scroll.clientWidth || 640) / Math.max(1, columns), NARROW, WIDE);
    this.paint(shapes, columns, height);
  }

  draw(cursor) {
    this.looking = null;
    const said = this.states.step(cursor);
    this.show(this.states.node(cursor), said.heading, said.text, said.sentence);
  }

  /** Look at a node: where the walk comes there, go along it; elsewhere only look. */
  look(node) {
    this.pause();
    const place = this.states.place(node);
    if (place !== null) {
      this.seek(place);
      return;
    }
    const { nmis, steps } = this.p.nodes[node];
    this.looking = node;
    this.show(node, "Looked at, off the walk", this.states.said(node), `First reached after ${nmis} arrivals and ${steps} steps.`);
    this.live.textContent = this.states.said(node);
  }

  show(node, heading, text, sentence) {
    const { places, node: size } = this.p.drawing;
    const [x, y] = [places[node][0] * this.col - size[0] / 2, places[node][1] - size[1] / 2];
    this.root.dataset.node = node;
    Object.assign(this.walker.style, { width: `${size[0]}px`, height: `${size[1]}px`, transform: `translate(${x}px, ${y}px)` });
    const { scroll } = this;
    if (x < scroll.scrollLeft || x + size[0] > scroll.scrollLeft + scroll.clientWidth)
      scroll.scrollLeft = x + size[0] / 2 - scroll.clientWidth / 2;
    this.heading.textContent = heading;
    this.doing.textContent = text;
    this.saying.textContent = sentence;
    const count = this.p.nodes[node].states;
    this.where.textContent = `${this.states.said(node)}; ${count.toLocaleString("en")} ${count === 1 ? "state" : "states"} of the machine.`;
    const { out, into } = this.states.ways(node);
    this.out.replaceChildren(...this.list(out, "to"));
    this.into.replaceChildren(...this.list(into, "from"));
  }
  list(ways, word) {
    if (!ways.length) return [h("li", "vl-none", {}, "None.")];
    return ways.map(([other, labels, , onWay]) => {
      const said = `${labels.join(", ")}, ${word} ${this.states.said(other)}`;
      const go = h("button", "vl-button", { type: "button" }, said);
      go.addEventListener("click", () => {
        this.look(other);
        this.scroll.focus(); // the list it stood in is another one now
      });
      return h("li", "", { "data-way": String(Boolean(onWay)) }, go);
    });
  }
  sentence(cursor) {
    return this.states.sentence(cursor);
  }
  keys() {
    return this.looking === null ? {} : { Escape: () => this.seek(this.cursor) };
  }
}

export default { render: mounted(StateGraph, "The graph cannot be drawn") };
