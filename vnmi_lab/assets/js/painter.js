// One window of the lanes as SVG.

import { isHigh, runs, style } from "./run.js";
import { NS, s } from "./nodes.js";
import { paintNmis } from "./instances.js";
import { CALL, CELL, rowTop, STRIP, WAVE } from "./lanes.js";

/** Draws the steps [from, to) of a run; x is in steps times `col` px. */
export class Painter {
  constructor(run, plan, col, from, to) {
    Object.assign(this, { run, plan, col, from, to });
    this.svg = document.createElementNS(NS, "svg");
    this.svg.setAttribute("class", "vl-svg");
    this.svg.setAttribute("aria-hidden", "true");
    const [x, width] = [from * col, (to - from) * col];
    this.svg.setAttribute("viewBox", `${x} 0 ${Math.max(1, width)} ${plan.height}`);
    this.svg.setAttribute("width", width);
    this.svg.setAttribute("height", plan.height);
    this.svg.style.left = `${x}px`;
  }
  x(step) {
    return Math.round(step * this.col * 10) / 10;
  }
  inside(first, end) {
    return end > this.from && first < this.to;
  }
  text(x, y, text, classes, anchor = "start") {
    s(this.svg, "text", { x, y, class: classes, "text-anchor": anchor }, text);
  }
  /** Write the first of some texts that fits a width; the last of them may be written small. */
  label(x, y, room, texts, classes, anchor = "start") {
    const text = texts.find((candidate) => candidate && candidate.length * 6.4 + 4 <= room);
    if (text) {
      this.text(x, y, text, classes, anchor);
      return;
    }
    const last = texts.at(-1);
    if (last && last.length * 5.5 + 4 <= room) this.text(x, y, last, `${classes} vl-small`, anchor);
  }
  path(d, classes) {
    s(this.svg, "path", { d, class: classes });
  }
  box(x, y, width, height, classes, r = 3) {
    s(this.svg, "rect", { x, y, width: Math.max(1, width), height, rx: r, class: classes });
  }

  paint() {
    this.ruler();
    this.links((link) => link[1] === "outside"); // behind the boxes; the others cross them
    for (const lane of this.plan.lanes) {
      const y = lane.top + 0.5;
      this.path(`M${this.x(this.from)} ${y}H${this.x(this.to)}`, "vl-grid");
      if (lane.id === "outside") this.outside(lane);
      else if (lane.id === "calls") this.calls(lane);
      else if (lane.id === "world") this.world(lane);
      else if (lane.id === "code") this.code(lane);
      else if (lane.id === "lint") this.lint(lane);
      else if (lane.id === "nmis") paintNmis(this, lane);
      else if (lane.wave.style === "bus" || lane.wave.style === "shadow") this.bus(lane);
      else this.wave(lane);
    }
    this.links((link) => link[1] !== "outside");
    return this.svg;
  }

  ruler() {
    const every = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000].find((n) => n * this.col >= 34) || 2000;
    for (let step = Math.ceil(this.from / every) * every; step < this.to; step += every) {
      this.text(this.x(step + 0.5), 18, String(step), "", "middle");
    }
  }

  outside(lane) {
    const marks = this.run.p.marks.filter(([step]) => this.inside(step - 40, step + 1) && step < this.to);
    marks.forEach(([step, kind, label], i) => {
      const [x, y] = [this.x(step + 0.5), lane.top];
      const room = (i + 1 < marks.length ? this.x(marks[i + 1][0] + 0.5) : this.x(this.run.length)) - x - 14;
      const short = kind !== "host" || label.includes(" = ") ? label.split(" ")[0] : ""; // "do not intercept" is no "do"
      if (kind === "host") this.path(`M${x - 4} ${y + 16}h8v8h-8z`, `${style(kind)} vl-solid`);
      else this.path(`M${x} ${y + 12}v14M${x - 4.5} ${y + 22}l4.5 6 4.500 -6z`, `${style(kind)} vl-solid`);
      this.label(
        x + 9,
        y + 24,
        room,
        short ? [label, short] : [label],
        kind === "host" ? "vl-said" : `${style(kind)} vl-ink`,
      );
    });
  }

  /** The KVM functions that did something, each from the step it ran in; cut short where the next one begins. */
  calls(lane) {
    for (const [step, row, end, name] of this.run.p.calls.lane) {
      if (!this.inside(step - 40, step + 1) || step >= this.to) continue;
      const [x, y] = [this.x(step + 0.5), lane.top + 7 + row * CALL];
      const room = this.x(end < this.run.length ? end + 0.5 : end) - x - 10;
      this.path(`M${x} ${y}v${CALL}`, "vl-call");
      const letters = Math.max(0, Math.floor((room - 4) / 5.5));
      const fits = name.length > letters ? `${name.slice(0, Math.max(0, letters - 1))}…` : name;
      if (fits.length > 5) this.label(x + 5, y + 10, room, [fits], "vl-said");
    }
  }

  /** What the hypervisor did wrong, each with a sign and a few words. */
  lint(lane) {
    const found = this.run.p.lint.filter(([step]) => step < this.to);
    found.forEach(([step, label, sentence], i) => {
      if (!this.inside(step - 40, step + 1)) return;
      const [x, y] = [this.x(step + 0.5), lane.top];
      const sign = `M${x - 6} ${y + 21}L${x} ${y + 9}L${x + 6} ${y + 21}zM${x} ${y + 13}v4M${x} ${y + 18.5}v1`;
      s(s(this.svg, "path", { d: sign, class: "vl-arrow" }), "title", {}, sentence);
      const end = this.x(i + 1 < found.length ? found[i + 1][0] + 0.5 : this.run.length);
      const left = i + 1 === found.length && label.length * 5.5 + 4 > end - x - 12;
      this.label(x + (left ? -9 : 9), y + 19, left ? 400 : end - x - 12, [label], "vl-said", left ? "end" : "start");
    });
  }

  world(lane) {
    const [high, low] = [lane.top + 8, lane.bare ? lane.top + 8 : lane.top + 60];
    const words = { kvm: "KVM", guest: "guest", bare: "bare metal: no hypervisor" };
    for (const [first, end, world] of this.run.p.worlds) {
      if (!this.inside(first, end)) continue;
      const [x, y] = [this.x(Math.max(first, this.from - 1)), world === "guest" ? low : high];
      const width = this.x(Math.min(end, this.to + 1)) - x;
      this.box(x + 0.5, y + 0.5, width - 1, 17, `${style(world)} vl-box`);
      this.label(x + 8, y + 13, width - 8, [words[world] || String(world)], `${style(world)} vl-ink vl-soft`);
    }
    const crossings = this.run.p.crossings;
    crossings.forEach(([step, way, label], i) => {
      if (!this.inside(step - 12, step + 1)) return;
      const x = this.x(step + 0.5);
      const [tail, head, tip] = way === "down" ? [high + 20, low - 3, -5] : [low - 2, high + 21, 5];
      this.path(`M${x} ${tail}V${head + tip}`, "vl-arrow");
      this.path(`M${x - 4} ${head + tip}h8L${x} ${head}z`, "vl-tip");
      const short = brief(label);
      const left = this.isLeft(i);
      const end = this.x(i + 1 < crossings.length ? crossings[i + 1][0] + 0.5 : this.run.length);
      const taken = this.isLeft(i + 1) ? brief(crossings[i + 1][2]).length * 6.4 + 12 : 0;
      const room = left ? x - (i ? this.x(crossings[i - 1][0] + 0.5) : -8) - 16 : end - x - 8 - taken;
      const texts = left ? [short] : [label, short];
      this.label(x + (left ? -8 : 8), (high + low) / 2 + 13, room, texts, "vl-said", left ? "end" : "start");
    });
  }

  /** Whether a crossing's name stands left of its arrow: that of the last one, where the run ends too soon. */
  isLeft(i) {
    const crossings = this.run.p.crossings;
    if (i + 1 !== crossings.length) return false;
    const [step, , label] = crossings[i];
    return brief(label).length * 6.4 + 6 > this.x(this.run.length) - this.x(step + 0.5) - 8;
  }

  code(lane) {
    this.path(`M${this.x(this.from)} ${rowTop(lane, 0) + CELL / 2}H${this.x(this.to)}`, "vl-rest");
    for (const [first, end, row, kind, ...names] of this.run.p.handlers) {
      if (!this.inside(first, end)) continue;
      const [x, y, width] = [this.x(first), rowTop(lane, row) - STRIP, this.x(end) - this.x(first)];
      this.box(x + 0.5, y + 0.5, width - 1, STRIP + CELL + 2, `${style(kind)} vl-box`, 4);
      const from = Math.max(x, this.x(this.from));
      this.label(from + 7, y + 11, x + width - from, names, `${style(kind)} vl-ink vl-soft`);
    }
    for (let step = this.from; step < this.to; step++) this.cell(lane, step);
  }

  cell(lane, step) {
    const kind = this.run.p.kinds[step];
    if (!["exec", "deliver", "idle", "stop"].includes(kind)) return;
    const y = rowTop(lane, this.run.column("row", step));
    const owner = style(this.run.column("owner", step));
    const [x, width] = [this.x(step) + (this.col > 8 ? 2 : 0.5), this.col - (this.col > 8 ? 4 : 1)];
    const text = this.run.text(step);
    const short = kind !== "deliver" ? text.split(" ")[0] : /NMI/.test(text) ? "NMI" : (text.match(/\b[\dA-F]+h?\b/) || [""])[0];
    this.box(x, y + 0.5, width, CELL - 3, `${owner} ${kind === "deliver" ? "vl-solid" : "vl-box"}`);
    const ink = kind === "deliver" ? "vl-on" : `${owner} vl-ink`;
    const texts = kind === "deliver" ? [short] : [text, short, short.replace(/q$/, "")]; // at worst without the size
    this.label(x + width / 2, y + 15, this.col - 2, texts, ink, "middle");
  }

  wave(lane) {
    const [high, low, name] = [lane.top + 9, lane.top + WAVE - 8, style(lane.wave.style)];
    const slope = Math.min(3, this.col / 4);
    for (const [first, end, value] of runs(this.run.p.state[lane.id], this.from, this.to)) {
      const [x, right] = [this.x(Math.max(first, this.from)), this.x(end)];
      if (value === null) continue;
      if (!value) {
        this.path(`M${x} ${low}H${right}`, "vl-low");
        continue;
      }
      const edge = `M${x} ${low}L${x + slope} ${high}H${right}L${right + slope} ${low}`;
      this.path(`${edge}z`, `${name} vl-fill`);
      this.hatch(x + slope, right, high, low, lane.wave.style, name);
      this.path(edge, `${name} vl-edge vl-line`);
      const said = [lane.wave.high.replace("#", value), String(value)];
      this.label(x + slope + 6, low - 4, right - x, said, `${name} vl-ink vl-soft`);
    }
  }

  /** Lines that say "high" without colour: slanted for a mask, upright for something pending, none for the rest. */
  hatch(x, right, high, low, kind, name) {
    if (kind !== "mask" && kind !== "pend") return;
    const lean = kind === "mask" ? low - high : 0;
    let d = "";
    for (let at = x + 3; at + lean < right; at += 7) d += `M${at} ${low}l${lean} ${high - low}`;
    s(this.svg, "path", { d, class: `${name} vl-edge`, "stroke-width": 0.75, "stroke-opacity": 0.35, fill: "none" });
  }

  bus(lane) {
    const [high, low, name] = [lane.top + 9, lane.top + WAVE - 8, style(lane.wave.style)];
    const middle = (high + low) / 2;
    for (const [first, end, value] of runs(this.run.p.state[lane.id], this.from, this.to)) {
      const [x, right] = [this.x(Math.max(first, this.from)), this.x(end)];
      if (!isHigh(value, lane.wave.mask)) {
        this.path(`M${x} ${low}H${right}`, "vl-low");
        continue;
      }
      const cut = Math.min(4, (right - x) / 3);
      this.path(
        `M${x} ${middle}l${cut} ${high - middle}H${right - cut}L${right} ${middle}L${right - cut} ${low}H${x + cut}z`,
        `${name} vl-box vl-line`,
      );
      const text = this.run.written(lane.id, value);
      this.label(x + cut + 4, low - 4, right - x - 4, [text, text.replace(/0+(?=[1-9A-F]+h)/, "…")], `${name} vl-ink`);
    }
  }

  /** Where an arrow enters the code: from above through the name of the handler, if there is one. */
  intoCode(lane, step, down) {
    const row = this.run.column("row", step);
    return rowTop(lane, row) + (down ? (row ? -STRIP - 1 : -2) : CELL);
  }

  /** Cause and effect; a link whose lane is hidden is not drawn. */
  links(wanted) {
    for (const [from, a, to, b] of this.run.p.links.filter(wanted)) {
      const [start, end] = [this.plan.of[a], this.plan.of[b]];
      if (!start || !end || !this.inside(from, to + 1) || to >= this.to) continue;
      const group = s(this.svg, "g", { class: "vl-cause", "data-from": from, "data-to": to });
      const [x, right] = [this.x(from + 0.5), this.x(to + 0.5)];
      const down = end.top > start.top;
      const y = leaves(start, down),
        goal = b === "code" ? this.intoCode(end, to, down) : enters(end, down);
      const [way, stop, base] = down ? [-1, goal - 5, goal - 6] : [1, goal + 6, goal + 7];
      const bend = `C${x} ${y - 24 * way} ${right} ${goal + 30 * way} ${right} ${stop}`;
      s(group, "path", { d: `M${x} ${y}${from === to ? `V${stop}` : bend}`, class: "vl-link" });
      s(group, "path", { d: `M${right - 4} ${base}h8L${right} ${goal}z`, class: "vl-link-tip" });
    }
  }
}

/** The name of a crossing without its number. */
function brief(label) {
  return label.replace(/ ?\(.*/, "");
}

/** Where an arrow leaves a lane, and where one enters it, going down or up. */
function leaves(lane, down) {
  if (lane.id === "outside") return lane.top + 32;
  if (lane.id === "world") return lane.top + (down ? 79 : 8);
  if (down) return lane.top + WAVE - 6;
  return lane.top + (lane.id === "event_inj" ? 8 : WAVE - 14);
}

function enters(lane, down) {
  if (lane.id === "world") return lane.top + (down ? 7 : 79);
  return lane.top + (down ? 6 : WAVE - 6);
}
