// What the views beside the timeline share: a cursor, controls, keys, play, and the model behind them.

import { clamp } from "./run.js";
import { button, h, icon, keyList, press, watchTheme } from "./nodes.js";
import { beat, Teller } from "./pace.js";
import { draw } from "./shapes.js";

const PACES = [0.5, 1, 2, 5, 10];

/** A view with one cursor from 0 to `last`. Who extends it gives `draw(cursor)`, `sentence(cursor)`, `keys()`. */
export class Stage {
  constructor(model, root, unit) {
    Object.assign(this, { model, root, unit, playing: false, speed: 2, undo: [] });
    this.teller = new Teller(model, () => this.cursor);
    this.live = h("div", "vl-hidden", { "aria-live": "polite", role: "status" });
    root.classList.add("vnmi-player");
    root.setAttribute("role", "region");
    root.dataset.playing = "false";
    this.still = matchMedia("(prefers-reduced-motion: reduce)");
    this.undo.push(watchTheme((name) => (root.dataset.theme = name)));
    this.on(root, "keydown", (event) => press(event, () => this.actions(event)[event.key]));
    const follow = () => {
      if (!this.playing && model.get("cursor") !== this.cursor) this.seek(model.get("cursor"), { save: false });
    };
    model.on("change:cursor", follow);
    this.undo.push(() => model.off("change:cursor", follow));
  }
  on(target, name, action) {
    target.addEventListener(name, action);
    this.undo.push(() => target.removeEventListener(name, action));
  }

  /** Fit the view, now and whenever the width of `this.scroll` has changed; who extends it gives `fit()`. */
  fitted() {
    this.fit();
    let width = 0;
    const size = new ResizeObserver(() => {
      if (this.scroll.clientWidth && this.scroll.clientWidth !== width) {
        width = this.scroll.clientWidth;
        this.fit();
      }
    });
    size.observe(this.scroll);
    this.undo.push(() => size.disconnect());
  }
  /** Draw shapes in `this.canvas` in the place of those before, `this.col` px a column. */
  paint(shapes, columns, height) {
    this.canvas.style.width = `${this.col * columns}px`;
    this.canvas.style.height = `${height}px`;
    const svg = draw(shapes, this.col, columns, height);
    if (this.svg) this.svg.replaceWith(svg);
    else this.canvas.prepend(svg);
    this.svg = svg;
    this.seek(this.cursor, { save: false, jump: true });
  }

  /** The bar of controls; `more` are the view's own buttons. */
  controls(...more) {
    const go = (target) => () => {
      this.pause();
      this.seek(target());
    };
    const to = (name, label, target) => button(name, label, go(target));
    this.first = to("first", `First ${this.unit} (Home)`, () => 0);
    this.back = to("back", "Step back (left arrow)", () => this.cursor - 1);
    this.play = button("play", "Play (space)", () => this.toggle(), "vl-play");
    this.next = to("step", "Step (right arrow)", () => this.cursor + 1);
    this.end = to("last", `Last ${this.unit} (End)`, () => this.last);
    this.scrub = h("input", "vl-scrub", { type: "range", min: "0", step: "1", max: this.last, "aria-label": this.unit });
    this.scrub.addEventListener("input", go(() => +this.scrub.value));
    this.place = h("span", "vl-whereat");
    this.pace = h("select", "", { "aria-label": `Speed in ${this.unit}s per second` });
    for (const speed of PACES) this.pace.append(h("option", "", { value: speed }, String(speed)));
    this.pace.value = this.speed;
    this.pace.addEventListener("change", () => (this.speed = +this.pace.value));
    const group = (label, ...nodes) => h("div", "vl-group", { role: "group", "aria-label": label }, ...nodes);
    return h(
      "div",
      "vl-bar",
      { role: "group", "aria-label": "Controls" },
      group("Steps", this.first, this.back, this.play, this.next, this.end),
      ...more,
      this.scrub,
      h("span", "vl-label", {}, this.place),
      h("label", "vl-label", {}, this.pace, `${this.unit}s/s`),
    );
  }

  /** The sheet of keys, and the button that opens it. */
  sheet(keys, heading) {
    this.help = button("help", "Keys (?)", () => this.toggleKeys());
    this.help.setAttribute("aria-expanded", "false");
    this.keySheet = keyList(keys, heading);
    return this.keySheet;
  }
  toggleKeys(open = this.keySheet.hidden) {
    this.keySheet.hidden = !open;
    this.help.setAttribute("aria-expanded", String(open));
  }

  seek(to, { save = true, jump = false } = {}) {
    this.cursor = clamp(Number.isFinite(to) ? Math.trunc(to) : this.cursor, 0, this.last);
    this.root.classList.toggle("vl-jump", jump || this.still.matches);
    this.root.dataset.cursor = this.cursor;
    this.draw(this.cursor);
    this.scrub.value = this.cursor;
    this.place.textContent = `${this.unit} ${this.cursor} of ${this.last}`;
    const said = this.sentence(this.cursor);
    this.scrub.setAttribute("aria-valuetext", said);
    for (const node of [this.first, this.back]) node.setAttribute("aria-disabled", String(this.cursor === 0));
    for (const node of [this.next, this.end]) node.setAttribute("aria-disabled", String(this.cursor === this.last));
    const time = performance.now();
    if (!this.playing || time - (this.told ?? -Infinity) > 2000) {
      this.told = time;
      this.live.textContent = said;
    }
    if (save && !this.playing) this.teller.tell();
  }

  toggle() {
    if (this.playing) this.pause();
    else this.start();
  }
  start() {
    if (!this.last) return;
    if (this.cursor >= this.last) this.seek(0, { jump: true, save: false });
    this.playing = true;
    this.face("pause", "Pause (space)");
    this.halt = beat(
      () => this.speed,
      (count) => {
        this.seek(this.cursor + count);
        if (this.cursor >= this.last) this.pause();
        return this.playing;
      },
    );
  }
  pause() {
    if (!this.playing) return;
    this.playing = false;
    this.halt();
    this.face("play", "Play (space)");
    this.live.textContent = this.sentence(this.cursor);
    this.teller.tell();
  }
  face(name, label) {
    this.play.replaceChildren(icon(name));
    this.play.setAttribute("aria-label", label);
    this.play.title = label;
    this.root.dataset.playing = String(this.playing);
  }

  /** What the keys do, by name. */
  actions({ shiftKey }) {
    const to = (target) => () => {
      this.pause();
      this.seek(target());
    };
    return {
      " ": () => this.toggle(),
      ArrowRight: to(() => this.cursor + (shiftKey ? 10 : 1)),
      ArrowLeft: to(() => this.cursor - (shiftKey ? 10 : 1)),
      Home: to(() => 0),
      End: to(() => this.last),
      "?": () => this.toggleKeys(),
      ...(this.keySheet.hidden ? {} : { Escape: () => this.toggleKeys(false) }),
      ...this.keys(to),
    };
  }

  close() {
    this.halt?.();
    this.teller.stop();
    this.playing = false;
    for (const action of this.undo) action();
  }
}

/** anywidget's render for a view: draws `model`'s payload in `el`, again whenever another one comes. */
export function mounted(View, complaint) {
  return ({ model, el }) => {
    const root = el.appendChild(document.createElement("div"));
    let view = null;
    const open = () => {
      if (view) view.close();
      view = null;
      try {
        view = new View(model, root);
      } catch (error) {
        root.replaceChildren(h("p", "", { role: "alert" }, `${complaint}: ${error.message}`));
        console.error(error);
      }
    };
    model.on("change:payload", open);
    open();
    return () => {
      model.off("change:payload", open);
      if (view) view.close();
      view = null;
      root.remove(); // JupyterLab keeps what a cell showed before it ran again
    };
  };
}
