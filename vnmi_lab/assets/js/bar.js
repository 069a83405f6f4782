// The first row of controls: steps, events, exits, the scrubber, the step's number and the speed.

import { button, h, icon, set } from "./nodes.js";

const SPEEDS = [0.5, 1, 2, 5, 10, 20, 60]; // a second
export const EVENT = "An event is a step that is more than an instruction, or one that changes a lane.";

export class Bar {
  constructor(player) {
    this.player = player;
    const go = (target) => () => player.travel(target());
    this.first = button("first", "First step (Home)", go(() => 0));
    this.back = button("back", "Step back (left arrow)", () => player.walk(-1));
    this.play = button("play", "Play (space)", () => player.toggle(), "vl-play");
    this.step = button("step", "Step (right arrow)", () => player.walk(1));
    this.last = button("last", "Last step (End)", go(() => player.limit()));
    this.prev = button("prev", "Previous event (comma)", go(() => player.event(-1)));
    this.next = button("next", "Next event (full stop)", go(() => player.event(1)));
    this.lastExit = button("exitBack", "Previous #VMEXIT (Shift + E)", () => player.toExit(-1));
    this.nextExit = button("exit", "Next #VMEXIT (E)", () => player.toExit(1));
    this.scrub = h("input", "vl-scrub", { type: "range", min: "0", step: "1", "aria-label": "Step" });
    this.scrub.addEventListener("input", go(() => +this.scrub.value));
    this.goto = h("input", "", { type: "number", min: "0", "aria-label": "Go to step" });
    this.goto.addEventListener("change", go(() => (this.goto.value === "" ? player.cursor : Math.trunc(+this.goto.value))));
    this.total = h("span");
    this.el = this.row();
  }
  row() {
    const { player } = this;
    const pace = h("select", "", { "aria-label": "Speed in steps per second, or in events", title: EVENT });
    const unit = h("span", "", {}, `${player.counts}/s`);
    for (const counts of ["steps", "events"]) {
      const speeds = SPEEDS.map((speed) => h("option", "", { value: counts === "steps" ? speed : `${counts} ${speed}` }, String(speed)));
      pace.append(h("optgroup", "", { label: `${counts} per second` }, ...speeds));
    }
    pace.value = player.counts === "steps" ? player.speed : `${player.counts} ${player.speed}`;
    pace.addEventListener("change", () => {
      const [speed, counts = "steps"] = pace.value.split(" ").reverse();
      player.setSpeed(+speed, counts);
      unit.textContent = `${counts}/s`;
    });
    const group = (label, ...nodes) => h("div", "vl-group", { role: "group", "aria-label": label }, ...nodes);
    const exits = group("Exits", this.lastExit, this.nextExit);
    exits.hidden = !player.run.p.kinds.includes("vmexit");
    return h(
      "div",
      "vl-bar",
      { role: "group", "aria-label": "Controls" },
      group("Steps", this.first, this.back, this.play, this.step, this.last),
      group("Events", this.prev, this.next),
      exits,
      this.scrub,
      h("label", "vl-label", {}, "step", this.goto, this.total),
      h("label", "vl-label", {}, pace, unit),
    );
  }
  build(limit) {
    const { run } = this.player;
    const last = limit === run.length - 1 ? run.whole - 1 : limit;
    this.scrub.max = this.goto.max = last;
    this.total.textContent = `of ${last}`;
  }
  show(step) {
    const { player } = this;
    const limit = player.limit();
    this.scrub.value = step;
    this.scrub.setAttribute("aria-valuetext", `${step} of ${limit}: ${player.run.text(step)}`);
    if (document.activeElement !== this.goto || !player.playing) this.goto.value = step;
    const off = (nodes, at) => nodes.forEach((node) => set(node, "aria-disabled", at));
    off([this.first, this.back, this.prev, this.lastExit], step === 0 && !player.sub);
    off([this.step, this.last, this.next, this.nextExit], step === limit && player.whole());
  }
  face(playing) {
    const label = `${playing ? "Pause" : "Play"} (space)`;
    this.play.replaceChildren(icon(playing ? "pause" : "play"));
    this.play.setAttribute("aria-label", label);
    this.play.title = label;
  }
}
