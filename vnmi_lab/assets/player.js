// The timeline player: one plain ES module, no imports, no network. `render` draws what vnmi_lab.timeline.build wrote.
// Every text of a payload is untrusted: it reaches the page through textContent and attributes only, never as markup.

// ---- 1. Constants -------------------------------------------------------------------------------------------------

const VERSION = 1;
const NS = "http://www.w3.org/2000/svg";
const RULER = 28; // px, height of the step numbers
const CELL = 24; // px, an instruction
const STRIP = 14; // px, the name of a handler above its instructions
const ROW = CELL + STRIP + 4; // px, from one handler to the one inside it
const WAVE = 34; // px, one digital wave
const CALL = 13; // px, the name of a KVM function
const FIT_STEPS = 120; // runs up to this long are fitted to the width, longer ones scroll
const REST = 200; // ms without a move before the kernel is told
const SPEEDS = [0.5, 1, 2, 5, 10, 20, 60]; // steps per second
const STYLES = new Set([
  "main",
  "nmi",
  "other",
  "intr",
  "host",
  "bare",
  "guest",
  "mask",
  "pend",
  "bus",
  "plain",
  "shadow",
]);
const GROUPS = ["KVM", "NMI", "Interrupts", "VMCB", "Registers"];
const SHADOWS = ["", "STI", "MOV SS"];
const REQUESTS = ["NMI", "EVENT", "SMI"];
const KEYS = [
  ["Space", "play or pause"],
  ["← →", "one step back, one step on"],
  ["Shift + ← →", "ten steps"],
  [", .", "previous, next event"],
  ["Home End", "first, last step"],
  ["+ −", "zoom in, zoom out"],
  ["0", "fit to the width"],
  ["A", "all lanes, or those that move"],
  ["?", "this sheet"],
];
const ICONS = {
  first: "M4 3v10M13 3.5 6.5 8 13 12.5z",
  back: "M11 3.5 4.5 8 11 12.5z",
  play: "M5 3l8 5-8 5z",
  pause: "M5 3.5h1.5v9H5zM9.5 3.5H11v9H9.5z",
  step: "M5 3.5 11.5 8 5 12.5z",
  last: "M12 3v10M3 3.5 9.5 8 3 12.5z",
  prev: "M7 4 3 8l4 4M11.500 5.500 14 8l-2.500 2.500L9 8z",
  next: "M9 4l4 4-4 4M4.500 5.500 7 8l-2.500 2.500L2 8z",
  out: "M3.5 8h9",
  in: "M3.5 8h9M8 3.5v9",
  fit: "M5.5 4 2 8l3.5 4M10.5 4 14 8l-3.5 4M2.5 8h11",
  lanes: "M2.5 4h11M2.5 8h11M2.5 12h11",
  help: "M6 6a2 2 0 1 1 2.8 1.9C8.2 8.200 8 8.600 8 9.300M8 12h.01",
  point: "M3 2.500 10 6 3 9.500z",
};
const OPEN = new Set(["prev", "next", "out", "in", "fit", "lanes", "help"]); // icons drawn as lines

// ---- 2. The payload, read -----------------------------------------------------------------------------------------

/** A payload with the lookups the views need; knows nothing of the page. */
class Run {
  constructor(payload) {
    if (!payload || payload.version !== VERSION) {
      throw new Error(`this player reads payload version ${VERSION}, not ${payload ? payload.version : "nothing"}`);
    }
    this.p = payload;
    this.length = payload.steps;
    this.changes = new Map();
    for (const change of payload.changes) {
      if (!this.changes.has(change[0])) this.changes.set(change[0], []);
      this.changes.get(change[0]).push(change);
    }
    this.forms = new Map(payload.fields.map(([key, , form]) => [key, form]));
    this.moving = new Set(payload.waves.filter((wave) => !wave.quiet).map((wave) => wave.key));
    this.paths = new Map(payload.calls.at);
    this.kvm = this.paths.size > 0;
  }
  /** How deep handlers are nested in the steps up to a limit: what is hidden must not show in the lanes. */
  depth(limit) {
    return Math.max(...runs(this.p.columns.row, 0, limit + 1).map((run) => run[2]));
  }
  /** The KVM functions that ran in a step: [depth, name, file, what it does]. */
  calls(step) {
    const { functions, paths } = this.p.calls;
    return (paths[this.paths.get(step)] || []).map(([depth, which]) => [depth, ...functions[which]]);
  }
  text(step) {
    return this.p.words[this.p.text[step]];
  }
  sentence(step) {
    return this.p.words[this.p.sentence[step]];
  }
  state(key, step) {
    return at(this.p.state[key], step);
  }
  column(key, step) {
    return at(this.p.columns[key], step);
  }
  /** Whether a lane shows a field; under KVM changes of int_ctl, EVENTINJ and the intercepts name their bits. */
  isNews(field) {
    const name = field.replace(/^vmcb\./, "").replace("intercept_3.iret", "iret_intercept");
    return this.moving.has(name) || (this.kvm && name.split(".").some((part) => this.moving.has(part)));
  }
  /** What a field was before a step that changed it, undefined if the step did not. */
  before(key, step) {
    const flat = this.p.state[key],
      index = seekColumn(flat, step);
    if (step > 0) return flat[2 * index] === step ? flat[2 * index - 1] : undefined;
    return (this.changes.get(0) || []).find((change) => change[2] === key)?.[3];
  }
  /** A value as its field asks; a change names "vmcb.rip" for what the VMCB holds and "[0x1000]" for memory. */
  written(key, value) {
    return written(key.startsWith("[") ? "register" : this.forms.get(key.replace(/^vmcb\./, "")) || "vmcb", value);
  }
}

/** Index of the last entry of a column that starts at or before a step, -1 if none. */
function seekColumn(flat, step) {
  let low = 0,
    high = flat.length / 2;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (flat[2 * middle] <= step) low = middle + 1;
    else high = middle;
  }
  return low - 1;
}

function at(flat, step) {
  const index = flat ? seekColumn(flat, step) : -1;
  return index < 0 ? null : flat[2 * index + 1];
}

/** The runs of a column that touch [from, to): [first, end, value]. */
function runs(flat, from, to) {
  const found = [];
  for (let i = Math.max(0, seekColumn(flat, from)); 2 * i < flat.length && flat[2 * i] < to; i++) {
    const end = 2 * i + 2 < flat.length ? flat[2 * i + 2] : Infinity;
    found.push([flat[2 * i], Math.min(end, to), flat[2 * i + 1]]);
  }
  return found;
}

/** A value as its form asks; words that are no number stay as they are. */
function written(form, value) {
  if (value === null || value === undefined) return "none";
  const digits = typeof value === "number" ? value.toString(16) : /^0x[0-9a-f]+$/.test(value) ? value.slice(2) : null;
  if (digits === null) return String(value);
  if (form === "vmcb") return `${digits.toUpperCase()}h`;
  if (form === "address" || form === "register" || form === "flags") return `0x${digits}`;
  if (form === "shadow") return SHADOWS[value] || (value ? String(value) : "none");
  if (form === "requests") return REQUESTS.filter((_, bit) => (value >> bit) & 1).join(" ") || "none";
  return String(value);
}

/** Whether a value has a bit of a mask that is one bit, or is not 0 when the mask is all bits. */
function isHigh(value, mask) {
  if (!value || mask < 0) return Boolean(value);
  return (BigInt(value) & BigInt(mask)) !== 0n;
}

function style(name) {
  return `vl-s-${STYLES.has(name) ? name : "plain"}`;
}
function clamp(value, low, high) {
  return Math.max(low, Math.min(high, value));
}

// ---- 3. Nodes -----------------------------------------------------------------------------------------------------

/** An HTML element with a class, attributes and children; strings become text nodes. */
function h(tag, classes, attributes = {}, ...children) {
  const node = document.createElement(tag);
  if (classes) node.className = classes;
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

/** An SVG element inside `parent`; `text` becomes its text. */
function s(parent, tag, attributes, text) {
  const node = document.createElementNS(NS, tag);
  for (const name in attributes) node.setAttribute(name, attributes[name]);
  if (text !== undefined) node.textContent = text;
  parent.appendChild(node);
  return node;
}

function icon(name, size = 16) {
  const svg = document.createElementNS(NS, "svg");
  for (const [key, value] of [
    ["viewBox", `0 0 ${size} ${size}`],
    ["aria-hidden", "true"],
    ["focusable", "false"],
  ])
    svg.setAttribute(key, value);
  s(svg, "path", { d: ICONS[name], ...(OPEN.has(name) ? { fill: "none" } : {}) });
  return svg;
}

function button(name, label, action, classes = "") {
  const node = h("button", `vl-button ${classes}`, { type: "button", "aria-label": label, title: label }, icon(name));
  node.addEventListener("click", action);
  return node;
}

/** Light or dark: JupyterLab says, then VS Code, then the system. */
function theme() {
  const body = document.body;
  const said = body.dataset.jpThemeLight ?? body.getAttribute("data-jp-theme-light");
  if (said) return said === "false" ? "dark" : "light";
  if (body.dataset.vscodeThemeKind) return /dark|high-contrast$/.test(body.dataset.vscodeThemeKind) ? "dark" : "light";
  return matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
}

// ---- 4. Lanes: what stands where ------------------------------------------------------------------------------------

/** The lanes of a run, top to bottom, each with its place: {id, top, height, ...}. */
function layout(run, all, limit) {
  const depth = run.depth(limit);
  const lanes = [];
  let top = RULER;
  const add = (id, height, more = {}) => {
    lanes.push({ id, top, height, ...more });
    top += height;
  };
  if (run.p.marks.length) add("outside", 40);
  const names = run.p.calls.lane;
  if (names.length) add("calls", 14 + CALL * (1 + Math.max(...names.map(([, row]) => row))));
  const bare = run.p.worlds.length === 1 && run.p.worlds[0][2] === "bare";
  add("world", bare ? 36 : 84, { bare });
  add("code", 16 + CELL + depth * ROW + (depth ? STRIP : 0), { depth });
  for (const wave of run.p.waves) if (all || !wave.quiet) add(wave.key, WAVE, { wave });
  return { lanes, height: top + 8, of: Object.fromEntries(lanes.map((lane) => [lane.id, lane])) };
}

/** Top of a row of the code lane; row 0 is main, deeper handlers stand above it. */
function rowTop(lane, row) {
  const bottom = lane.top + lane.height - 8 - CELL;
  return bottom - row * ROW;
}

const ROW_NAMES = ["main", "handler", "handler in handler"];

/** Names of the lanes, and the value each wave has at the cursor. */
class Gutter {
  constructor(run) {
    this.run = run;
    this.el = h("div", "vl-gutter");
  }
  build(plan) {
    this.el.replaceChildren();
    this.values = [];
    const name = (top, text, code) => {
      const label = h("div", "vl-name", {}, code ? h("code", "", {}, text) : h("span", "", {}, text));
      label.style.top = `${top}px`;
      return this.el.appendChild(label);
    };
    const detail = (top, text) => {
      const label = h("div", "vl-detail", { title: text }, text);
      label.style.top = `${top}px`;
      this.el.appendChild(label);
    };
    name(7, "step");
    for (const lane of plan.lanes) {
      if (lane.id === "outside") name(lane.top + 14, "outside");
      else if (lane.id === "calls") {
        name(lane.top + 8, "KVM functions");
        detail(lane.top + 24, "that changed something");
      }
      else if (lane.id === "world" && lane.bare) name(lane.top + 9, "world");
      else if (lane.id === "world") {
        name(lane.top + 9, "host");
        name(lane.top + 61, "guest");
      } else if (lane.id === "code") {
        for (let row = 0; row <= lane.depth; row++)
          name(rowTop(lane, row) + 4, ROW_NAMES[row] || `${row} handlers deep`);
      } else {
        const label = name(lane.top + 4, lane.wave.key, true);
        label.classList.toggle("vl-long", lane.wave.key.length > 20);
        detail(lane.top + 18, lane.wave.detail);
        this.values.push([lane.wave.key, label.appendChild(h("span", "vl-now", { "data-lane": lane.wave.key }))]);
      }
    }
  }
  show(step) {
    for (const [key, node] of this.values) node.textContent = this.run.written(key, this.run.state(key, step));
  }
}

// ---- 5. The chart: one window of the lanes as SVG -----------------------------------------------------------------

/** Draws the steps [from, to) of a run; x is in steps times `col` px. */
class Painter {
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
      const room = this.x(i + 1 < crossings.length ? crossings[i + 1][0] + 0.5 : this.run.length) - x - 8;
      const short = label.replace(/ ?\(.*/, "");
      const left = i + 1 === crossings.length && short.length * 6.4 + 6 > room;
      this.label(
        x + (left ? -8 : 8),
        (high + low) / 2 + 13,
        left ? 200 : room,
        [label, short],
        "vl-said",
        left ? "end" : "start",
      );
    });
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
    this.label(x + width / 2, y + 15, this.col - 2, kind === "deliver" ? [short] : [text, short], ink, "middle");
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

  /** Cause and effect; a link whose lane is hidden is not drawn. */
  links(wanted) {
    for (const [from, a, to, b] of this.run.p.links.filter(wanted)) {
      const [start, end] = [this.plan.of[a], this.plan.of[b]];
      if (!start || !end || !this.inside(from, to + 1) || to >= this.to) continue;
      const group = s(this.svg, "g", { class: "vl-cause", "data-from": from, "data-to": to });
      const [x, right] = [this.x(from + 0.5), this.x(to + 0.5)];
      const down = end.top > start.top;
      const y = leaves(start, down),
        goal = b === "code" ? rowTop(end, this.run.column("row", to)) + (down ? -8 : CELL) : enters(end, down);
      const [way, stop, base] = down ? [-1, goal - 5, goal - 6] : [1, goal + 6, goal + 7];
      const bend = `C${x} ${y - 24 * way} ${right} ${goal + 30 * way} ${right} ${stop}`;
      s(group, "path", { d: `M${x} ${y}${from === to ? `V${stop}` : bend}`, class: "vl-link" });
      s(group, "path", { d: `M${right - 4} ${base}h8L${right} ${goal}z`, class: "vl-link-tip" });
    }
  }
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

/** The scrolling chart: keeps a window painted around what is seen, and the playhead in it. */
class Chart {
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

// ---- 6. The panels: this step, code, processor, stack ---------------------------------------------------------------

function panel(name, heading) {
  const title = h("h3", "vl-heading", {}, heading);
  return h("section", `vl-panel vl-${name}`, { "aria-label": heading }, title);
}

/** What happened, in one sentence, and each change with its rule. */
class StepPanel {
  constructor(run) {
    this.run = run;
    this.el = panel("step", "This step");
    this.heading = this.el.firstChild;
    this.el.tabIndex = 0; // it scrolls
    this.name = h("b");
    this.sentence = h("p", "vl-sentence");
    this.list = h("ul", "vl-changes");
    this.calls = h("ol", "vl-calls", { "aria-label": "KVM functions" });
    this.el.append(h("div", "vl-caption", {}, this.name), this.sentence, this.calls, this.list);
  }
  show(step) {
    const { run } = this;
    this.heading.textContent = `Step ${step}`;
    this.name.textContent = run.text(step);
    this.sentence.textContent = run.sentence(step);
    const calls = run.calls(step).map(([depth, name, file, does]) =>
      h(
        "li",
        "vl-callee",
        { style: `--vl-depth: ${depth}`, title: does },
        h("code", "", {}, name),
        h("span", "vl-source", {}, file),
      ),
    );
    this.calls.replaceChildren(...calls);
    this.calls.hidden = !calls.length;
    const byRule = new Map();
    for (const change of run.changes.get(step) || []) {
      if (!byRule.has(change[1])) byRule.set(change[1], []);
      byRule.get(change[1]).push(change);
    }
    const news = ([, changes]) => changes.some((change) => run.isNews(change[2]));
    const order = [...byRule].sort((a, b) => news(b) - news(a));
    this.list.replaceChildren(...order.map(([rule, changes]) => this.entry(rule, changes)));
    if (!byRule.size) this.list.append(h("li", "vl-change vl-none", {}, "No field changed."));
  }
  entry(rule, changes) {
    const deltas = changes.map(([, , key, old, now]) =>
      h(
        "div",
        "vl-delta",
        { "data-field": key },
        h("span", "", {}, `${key}:`),
        h("span", "vl-old", {}, this.run.written(key, old)),
        "→",
        h("b", "", {}, this.run.written(key, now)),
      ),
    );
    const [sentence, source, grade] = this.run.p.rules[rule] || ["", "", ""];
    const why = h("p", "vl-why", {}, sentence);
    const from = h("p", "vl-source", { title: rule }, source === grade ? "" : source); // "model", once
    if (grade) from.append(h("span", "vl-grade", { title: "how sure this rule is" }, grade));
    return h(
      "li",
      "vl-change",
      { "data-rule": rule },
      ...deltas,
      ...(sentence ? [why, from] : [h("p", "vl-source", {}, rule)]),
    );
  }
}

/** Every field of the state; those that changed in this step say what they were. */
class ProcessorPanel {
  constructor(run) {
    this.run = run;
    this.el = panel("processor", `${run.kvm ? "KVM and processor" : "Processor"}, after this step`);
    this.rows = [];
    const more = h("details", "vl-more", {}, h("summary", "", {}, "Other registers, and what stays 0 in this run"));
    const rest = more.appendChild(h("dl", "vl-fields"));
    const groups = new Map();
    for (const field of run.p.fields) {
      const [, group, , , folded] = field;
      if (!folded && !groups.has(group)) groups.set(group, h("dl", "vl-fields"));
      (folded ? rest : groups.get(group)).append(this.row(field));
    }
    const parts = h("div", "vl-parts");
    for (const name of GROUPS)
      if (groups.has(name)) parts.append(h("div", "vl-part", {}, h("h4", "", {}, name), groups.get(name)));
    this.el.append(parts);
    if (rest.childElementCount) this.el.append(more);
  }
  row([key, , form, note]) {
    const value = h("dd", "vl-value"),
      said = h("dd", "vl-note");
    const name = h("dt", key.length > 20 ? "vl-long" : "", {}, ...key.split(/(?<=_)/).flatMap((part) => [part, h("wbr")]));
    const row = h("div", "vl-row", { "data-field": key }, name, value, said);
    this.rows.push({ key, form, note, row, value, said });
    return row;
  }
  show(step) {
    for (const { key, form, note, row, value, said } of this.rows) {
      const now = this.run.state(key, step),
        before = this.run.before(key, step);
      const text = before !== undefined ? `was ${written(form, before)}` : form === "flags" ? this.flags(now) : note;
      value.textContent = written(form, now);
      row.dataset.value = String(now);
      row.dataset.changed = String(before !== undefined);
      said.textContent = said.title = text;
    }
  }
  flags(value) {
    if (typeof value !== "number") return "";
    return this.run.p.flags
      .filter(([, bit]) => Math.floor(value / 2 ** bit) % 2)
      .map(([name]) => name)
      .join(" ");
  }
}

/** The disassembly: the instruction of this step, and the one that comes next. */
class CodePanel {
  constructor(run) {
    this.run = run;
    this.el = panel("listing", "Code");
    this.lines = new Map();
    this.list = h("div", "vl-list vl-lines", { tabindex: "0", role: "group", "aria-label": "Disassembly" });
    for (const [address, bytes, text, label] of run.p.code) {
      if (label) this.list.append(h("div", "vl-code", {}, h("span", "vl-tag", {}, `${label}:`)));
      const point = icon("point", 12),
        state = h("span", "vl-state");
      point.setAttribute("class", "vl-point");
      const line = h(
        "div",
        "vl-code",
        {},
        point,
        h("span", "vl-addr", {}, written("address", address)),
        h("span", "vl-bytes", { title: bytes }, bytes),
        h("span", "vl-text", {}, text),
        state,
      );
      this.lines.set(address, [line, state]);
      this.list.append(line);
    }
    this.el.append(this.list);
  }
  show(step) {
    for (const [line, state] of this.marked || []) {
      delete line.dataset.at;
      line.removeAttribute("aria-current");
      state.textContent = "";
    }
    this.marked = [];
    const next = this.lines.get(this.run.state("rip", step));
    if (next) this.mark(next, "next");
    const now = this.run.p.kinds[step] === "exec" && this.lines.get(this.run.column("at", step));
    if (now) this.mark(now, "now");
    const line = (now || next || [])[0];
    if (line) this.reveal(line);
  }
  mark(entry, name) {
    entry[0].dataset.at = name;
    if (name === "now") entry[0].setAttribute("aria-current", "step");
    entry[1].textContent = name;
    this.marked.push(entry);
  }
  reveal(line) {
    const [top, bottom] = [
      line.offsetTop - this.list.offsetTop,
      line.offsetTop - this.list.offsetTop + line.offsetHeight,
    ];
    if (top < this.list.scrollTop) this.list.scrollTop = top - 40;
    else if (bottom > this.list.scrollTop + this.list.clientHeight)
      this.list.scrollTop = bottom - this.list.clientHeight + 40;
  }
}

/** The top of the stack, an interrupt frame marked by its notes. */
class StackPanel {
  constructor(run) {
    this.run = run;
    this.el = panel("stack", "Stack, from RSP up");
    this.list = this.el.appendChild(h("div", "vl-list"));
  }
  show(step) {
    const { stack } = this.run.p;
    const base = at(stack.base, step),
      height = at(stack.height, step) || 0;
    const words = [];
    for (let n = 0; n < height; n++) {
      const address = base + 8 * n,
        flat = stack.words[address],
        value = at(flat, step),
        note = at(stack.notes[address], step);
      const fresh = flat && flat[2 * seekColumn(flat, step)] === step && step > 0;
      words.push(
        h(
          "div",
          "vl-word",
          { "data-frame": String(Boolean(note)), "data-changed": String(Boolean(fresh)) },
          h("span", "vl-addr", {}, written("address", address)),
          h("span", "", {}, written("address", value)),
          h("span", "vl-note", {}, [note, fresh && "new"].filter(Boolean).join(", ")),
        ),
      );
    }
    this.list.replaceChildren(...(words.length ? words : [h("p", "vl-none", {}, "Empty.")]));
  }
}

// ---- 7. The player --------------------------------------------------------------------------------------------------

class Player {
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
    this.views = [this.chart, ...[StepPanel, CodePanel, ProcessorPanel, StackPanel].map((View) => new View(this.run))];
    const panels = this.views.slice(1).map((view) => view.el);
    this.live = h("div", "vl-hidden", { "aria-live": "polite", role: "status" });
    this.left = h("div", "vl-left", {}, this.chart.el, this.controls());
    root.replaceChildren(this.top(), h("div", "vl-body", {}, this.left, ...panels), this.sheet(), this.live);
    this.listen();
    this.cursor = clamp(Math.trunc(model.get("cursor") || 0), 0, this.limit());
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

/** anywidget's entry: draws `model`'s payload in `el`, again whenever another one comes. */
function render({ model, el }) {
  const root = el.appendChild(document.createElement("div"));
  let player = null;
  const open = () => {
    if (player) player.close();
    player = null;
    try {
      player = new Player(model, root);
    } catch (error) {
      root.replaceChildren(h("p", "", { role: "alert" }, `The timeline cannot be drawn: ${error.message}`));
      console.error(error);
    }
  };
  model.on("change:payload", open);
  open();
  return () => {
    model.off("change:payload", open);
    if (player) player.close();
  };
}

export default { render };
