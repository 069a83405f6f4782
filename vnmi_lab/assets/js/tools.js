// The second row of controls: run until, loop, sub-steps, markers, search; and the line that says what came of it.

import { between, inWords } from "./marks.js";
import { button, h, named, put } from "./nodes.js";
import { SearchBox } from "./searchbox.js";
import { UntilMenu } from "./untilmenu.js";

export class Tools {
  constructor(player) {
    this.player = player;
    this.until = new UntilMenu(player);
    this.search = new SearchBox(player);
    this.loop = named("loop", "Loop", "Loop: play over and over (O)", () => player.toggleLoop());
    this.micro = named("micro", "Sub-steps", "Sub-steps: look inside (M)", () => player.toggleMicro());
    this.micro.hidden = !player.run.micro.size;
    this.a = this.marker("a", player);
    this.b = this.marker("b", player);
    this.focus = button("focus", "Zoom to what lies between the markers (F)", () => player.focusMarks());
    this.span = h("span", "vl-span");
    this.loop.setAttribute("aria-pressed", String(player.looping));
    this.micro.setAttribute("aria-pressed", String(player.micro));
    this.news = h("span", "vl-news");
    const group = (label, ...nodes) => h("div", "vl-group", { role: "group", "aria-label": label }, ...nodes);
    this.el = h(
      "div",
      "vl-bar vl-tools",
      { role: "group", "aria-label": "Tools" },
      this.until.el,
      group("Play", this.loop, this.micro),
      group("Markers", h("span", "vl-label", {}, "Markers"), this.a, this.b, this.focus, this.span),
      this.news,
      this.search.el,
    );
    this.marks();
  }
  marker(which, player) {
    const name = which.toUpperCase();
    const node = h("button", "vl-button vl-flagged", { type: "button" }, name);
    node.addEventListener("click", () => player.setMark(which));
    return node;
  }
  /** Say where the markers stand and what lies between them. */
  marks() {
    const { marks, run } = this.player;
    const both = marks.a !== null && marks.b !== null;
    this.focus.hidden = !both;
    this.span.textContent = both ? inWords(between(run, marks.a, marks.b)) : "";
    this.span.title = both && run.p.cycles ? run.p.cycles_note || "" : "";
    for (const which of ["a", "b"]) this[which].setAttribute("aria-pressed", String(marks[which] !== null));
    this.label(this.player.cursor);
  }
  /** What pressing a marker does now. */
  label(step) {
    for (const which of ["a", "b"]) {
      const [node, name, here] = [this[which], which.toUpperCase(), this.player.marks[which]];
      const does =
        here === null ? `Set marker ${name} here` : here === step ? `Remove marker ${name}` : `Move marker ${name} here`;
      if (node.title.startsWith(does)) continue;
      node.title = `${does} (${name})`;
      node.setAttribute("aria-label", node.title);
    }
  }
  show(step) {
    this.label(step);
    this.search.show(step);
    put(this.news, "");
  }
  tell(sentence) {
    this.news.textContent = this.news.title = sentence;
  }
}
