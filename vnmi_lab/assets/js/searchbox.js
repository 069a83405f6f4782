// The search box: what is sought, how often it was found, and the way from hit to hit.

import { button, h } from "./nodes.js";
import { nextHit, stepsWith } from "./search.js";

/** `player` needs run, chart, cursor, limit(), travel(step) and leave() to give the focus back to the chart. */
export class SearchBox {
  constructor(player) {
    this.player = player;
    this.hits = [];
    this.input = h("input", "vl-query", {
      type: "search",
      placeholder: "Search",
      "aria-label": "Search steps (/)",
      title: "Texts, sentences, fields, rules and KVM functions (/)",
      spellcheck: "false",
      autocomplete: "off",
      maxlength: "200",
    });
    this.input.addEventListener("input", () => this.look());
    this.input.addEventListener("keydown", (event) => this.key(event));
    this.count = h("span", "vl-count");
    const go = (way) => () => this.go(way);
    this.ways = [
      button("left", "Previous hit (Shift + N)", go(-1)),
      button("right", "Next hit (N)", go(1)),
    ];
    this.el = h("div", "vl-group vl-search", { role: "search" }, this.input, this.count, ...this.ways);
    this.show(0);
  }
  look() {
    this.hits = stepsWith(this.player.run, this.input.value, this.player.limit());
    this.player.chart.found(this.hits);
    this.show(this.player.cursor);
  }
  show(step) {
    const asked = this.input.value.trim() !== "";
    if (!asked && this.count.textContent === "" && this.ways[0].hidden) return;
    const place = this.hits.indexOf(step);
    const all = this.hits.length;
    const of = place < 0 ? `${all} hit${all === 1 ? "" : "s"}` : `${place + 1} of ${all}`;
    this.count.textContent = asked ? of : "";
    for (const way of this.ways) way.hidden = !asked;
  }
  go(way) {
    this.look(); // more may be seen by now
    const step = nextHit(this.hits, this.player.cursor, way);
    if (step >= 0) this.player.travel(step);
    else this.player.tell(this.input.value.trim() ? "Nothing found." : "Nothing is searched for.");
    if (step >= 0) this.player.tell(`Hit ${this.count.textContent}`);
  }
  key(event) {
    if (event.key === "Enter") this.go(event.shiftKey ? -1 : 1);
    else if (event.key === "Escape") {
      this.input.value = "";
      this.look();
      this.player.leave();
    } else return;
    event.preventDefault();
  }
}
