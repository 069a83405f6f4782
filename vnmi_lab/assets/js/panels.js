// The panels beside the chart: this step, code, processor, stack.

import { at, seekColumn, written } from "./run.js";
import { h, icon, put, set } from "./nodes.js";

const GROUPS = ["KVM", "NMI", "Interrupts", "VMCB", "Registers"];

function panel(name, heading) {
  const title = h("h3", "vl-heading", {}, heading);
  return h("section", `vl-panel vl-${name}`, { "aria-label": heading }, title);
}

/** The length of the longest text, as a width of the style sheet: letters here are equally wide. */
function longest(items, text) {
  return `${items.reduce((most, item) => Math.max(most, text(item).length), 0) + 0.2}ch`; // and no word breaks for a pixel
}

/** What happened, in one sentence, and each change with its rule. */
export class StepPanel {
  constructor(run) {
    this.run = run;
    this.el = panel("step", "This step");
    this.heading = this.el.firstChild;
    this.el.tabIndex = 0; // it scrolls
    this.name = h("b");
    this.sentence = h("p", "vl-sentence");
    this.list = h("ul", "vl-changes");
    this.calls = h("ol", "vl-calls", { "aria-label": "KVM functions" });
    this.subs = h("ol", "vl-subs", { "aria-label": "Sub-steps" });
    this.choose = () => {}; // what the player does when a sub-step is pressed
    this.el.append(h("div", "vl-caption", {}, this.name), this.subs, this.sentence, this.calls, this.list);
  }
  show(step) {
    const { run } = this;
    this.heading.textContent = `Step ${step}`;
    this.name.textContent = run.text(step);
    this.sentence.textContent = run.saying(step)[1];
    this.inside(run.inner ? run.subs(step) : []);
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
    for (const change of run.news(step)) {
      if (!byRule.has(change[1])) byRule.set(change[1], []);
      byRule.get(change[1]).push(change);
    }
    const news = ([, changes]) => changes.some((change) => run.isNews(change[2]));
    const order = [...byRule].sort((a, b) => news(b) - news(a));
    this.list.replaceChildren(...order.map(([rule, changes]) => this.entry(rule, changes)));
    if (!byRule.size) this.list.append(h("li", "vl-change vl-none", {}, "No field changed."));
  }
  /** The sub-steps of a step that is looked into, the one that is shown marked. */
  inside(subs) {
    this.subs.hidden = !subs.length;
    const items = subs.map(([label], sub) => {
      const node = h("button", "vl-substep", { type: "button" }, `${sub + 1}. ${label}`);
      if (sub === this.run.inner.sub) node.setAttribute("aria-current", "step");
      node.addEventListener("click", () => {
        this.choose(sub);
        this.subs.children[sub].firstChild.focus();
      });
      return h("li", "", {}, node);
    });
    this.subs.replaceChildren(...items);
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

const STRIPPED = "int_ctl"; // the field whose bits are drawn
const BITS = 32;

/** The low 32 bits of int_ctl, the highest first; the bits that are fields of their own say their number. */
class BitStrip {
  constructor(run) {
    this.run = run;
    this.named = new Map();
    for (const [key, group, , note] of run.p.fields) {
      const bit = group === "VMCB" && /^bit (\d+), (\w+)/.exec(note);
      if (bit) this.named.set(+bit[1], [key, bit[2]]);
    }
    this.cells = Array.from({ length: BITS }, (_, n) => this.cell(BITS - 1 - n));
    this.el = h("div", "vl-bits", { role: "img" }, ...this.cells);
  }
  cell(bit) {
    const name = this.named.get(bit)?.[1];
    const title = name ? `bit ${bit}, ${name}` : `bit ${bit}`;
    const number = h("span", "vl-bit-number", {}, name || bit % 16 === 15 || bit % 16 === 0 ? String(bit) : "");
    return h("span", `vl-bit${name ? " vl-bit-named" : ""}`, { "data-bit": bit, title }, number, h("b"));
  }
  show(step) {
    if (!this.named.size || !this.run.p.state[STRIPPED]) return;
    const value = integer(this.run.state(STRIPPED, step));
    const before = integer(this.run.before(STRIPPED, step) ?? this.run.state(STRIPPED, step));
    const bit = (of, n) => Number((of >> BigInt(n)) & 1n);
    for (const cell of this.cells) {
      const n = +cell.dataset.bit;
      const [now, changed] = [String(bit(value, n)), String(bit(value, n) !== bit(before, n))];
      if (cell.dataset.value !== now) cell.lastChild.textContent = cell.dataset.value = now;
      if (cell.dataset.changed !== changed) cell.dataset.changed = changed;
    }
    const said = [...this.named].sort(([a], [b]) => b - a).map(([n, [, name]]) => `bit ${n}, ${name}: ${bit(value, n)}`);
    this.el.setAttribute("aria-label", `Bits of ${STRIPPED}, ${written("vmcb", Number(value))}. ${said.join("; ")}`);
  }
}

/** A value of the state as an integer; none counts as 0. */
function integer(value) {
  return /^(\d+|0x[0-9a-f]+)$/.test(String(value)) ? BigInt(value) : 0n;
}

/** Every field of the state; those that changed in this step say what they were. */
export class ProcessorPanel {
  constructor(run) {
    this.run = run;
    this.name = run.kvm ? "KVM and processor" : "Processor";
    this.el = panel("processor", `${this.name}, after this step`);
    this.heading = this.el.firstChild;
    this.strip = new BitStrip(run);
    this.rows = [];
    const more = h("details", "vl-more", {}, h("summary", "", {}, "Other registers, and what stays 0 in this run"));
    const rest = more.appendChild(h("dl", "vl-fields"));
    const groups = new Map();
    for (const field of run.p.fields) {
      const [, group, , , folded] = field;
      if (!folded && !groups.has(group)) groups.set(group, h("dl", "vl-fields"));
      const row = (folded ? rest : groups.get(group)).appendChild(this.row(field));
      if (field[0] === STRIPPED && !folded && this.strip.named.size) row.append(h("dd", "vl-strip", {}, this.strip.el));
    }
    const parts = h("div", "vl-parts");
    for (const dl of [...groups.values(), rest]) this.fit(dl);
    for (const name of GROUPS)
      if (groups.has(name)) parts.append(h("div", "vl-part", {}, h("h4", "", {}, name), groups.get(name)));
    this.el.append(parts);
    if (rest.childElementCount) this.el.append(more);
  }
  /** Give a list its widths, in letters: that of its longest key, and of the widest value a field has in this run. */
  fit(dl) {
    const rows = this.rows.filter(({ row }) => row.parentNode === dl);
    dl.style.setProperty("--vl-longest", longest(rows, ({ key }) => key));
    const values = rows.flatMap(({ key, form }) => this.run.p.state[key].map((value, i) => (i % 2 ? written(form, value) : "")));
    dl.style.setProperty("--vl-widest", longest(values, (value) => value));
  }
  row([key, , form, note]) {
    const value = h("dd", "vl-value"),
      said = h("dd", "vl-note");
    const name = h("dt", "", {}, ...key.split(/(?<=_)/).flatMap((part) => [part, h("wbr")]));
    const row = h("div", "vl-row", { "data-field": key }, name, value, said);
    this.rows.push({ key, form, note, row, value, said });
    return row;
  }
  show(step) {
    for (const field of this.rows) {
      const { key, form, note, row, value, said } = field;
      const now = this.run.state(key, step),
        before = this.run.before(key, step);
      const text = before !== undefined ? `was ${written(form, before)}` : form === "flags" ? this.flags(now) : note;
      if (field.now === now && field.text === text) continue; // most fields do: writing the same again costs a layout
      Object.assign(field, { now, text });
      value.textContent = written(form, now);
      row.dataset.value = String(now);
      row.dataset.changed = String(before !== undefined);
      said.textContent = said.title = text;
    }
    this.strip.show(step);
    const { inner } = this.run;
    this.heading.textContent = `${this.name}, after ${inner ? `sub-step ${inner.sub + 1}` : "this step"}`;
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
export class CodePanel {
  constructor(run) {
    this.run = run;
    this.el = panel("listing", "Code");
    this.lines = new Map();
    this.list = h("div", "vl-list vl-lines", { tabindex: "0", role: "group", "aria-label": "Disassembly" });
    this.list.style.setProperty("--vl-place", longest(run.p.code, ([address]) => written("address", address)));
    this.list.style.setProperty("--vl-raw", longest(run.p.code, ([, bytes]) => bytes));
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
    cancelAnimationFrame(this.later);
    if (line) this.later = requestAnimationFrame(() => this.reveal(line)); // it measures, when all is written
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
export class StackPanel {
  constructor(run) {
    this.run = run;
    this.el = panel("stack", "Stack, 8-byte words from RSP up");
    this.empty = h("p", "vl-none", {}, "Empty.");
    this.list = this.el.appendChild(h("div", "vl-list", {}, this.empty));
    this.words = [];
  }
  show(now) {
    const { stack } = this.run.p;
    const step = this.run.stacked(now);
    const base = at(stack.base, step),
      height = at(stack.height, step) || 0;
    this.empty.hidden = height > 0;
    for (let n = 0; n < Math.max(height, this.words.length); n++) {
      const word = (this.words[n] ??= this.word());
      word.el.hidden = n >= height;
      if (n < height) this.write(word, base + 8 * n, step);
    }
  }
  word() {
    const [place, value, note] = [h("span", "vl-addr"), h("span"), h("span", "vl-note")];
    return { place, value, note, el: this.list.appendChild(h("div", "vl-word", {}, place, value, note)) };
  }
  write({ el, place, value, note }, address, step) {
    const { stack } = this.run.p;
    const flat = stack.words[address],
      noted = at(stack.notes[address], step);
    const fresh = Boolean(flat && flat[2 * seekColumn(flat, step)] === step && step > 0);
    set(el, "data-frame", Boolean(noted));
    set(el, "data-changed", fresh);
    put(place, written("address", address));
    put(value, written("address", at(flat, step)));
    put(note, [noted, fresh && "new"].filter(Boolean).join(", "));
  }
}
