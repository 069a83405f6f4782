// Linked cursors: timelines of one page that share a name move together.
//
// Runs of equal length move step by step. Others are aligned by what came from outside: the cursor stands so many steps
// after the n-th stimulus, and so it does in the other run, but never past that run's next stimulus.

import { clamp } from "./run.js";

const LINKED = "vnmi-lab-cursor"; // the event on the page's document

/** The steps in which something comes from outside, in every run alike; what a host does is its own. */
function arrivals(run) {
  return run.p.marks.filter(([, kind]) => kind !== "host").map(([step]) => step);
}

/** Where a step stands: how many stimuli came up to it, and how many steps ago the last of them did. */
export function standing(run, step) {
  const before = arrivals(run).filter((arrival) => arrival <= step);
  return { steps: run.whole, step, count: before.length, since: step - (before.at(-1) ?? 0) };
}

/** The step of a run that stands where another run's does. */
export function standsAt(run, { steps, step, count, since }) {
  if (steps === run.whole) return step;
  const there = arrivals(run);
  if (count > there.length) return run.length - 1;
  const start = count ? there[count - 1] : 0;
  const end = count < there.length ? there[count] - 1 : run.length - 1;
  return clamp(start + since, start, Math.max(start, end));
}

/** One end of a link: tells the others of the same name where its cursor is, and hears where theirs are. */
export class Link {
  constructor(name, run, moved) {
    this.run = run;
    this.name = name;
    this.hear = ({ detail }) => {
      if (detail.from !== this && detail.name === this.name && this.name) moved(standsAt(run, detail.standing));
    };
    document.addEventListener(LINKED, this.hear);
  }
  tell(step) {
    if (!this.name) return;
    const detail = { from: this, name: this.name, standing: standing(this.run, step) };
    document.dispatchEvent(new CustomEvent(LINKED, { detail }));
  }
  close() {
    document.removeEventListener(LINKED, this.hear);
  }
}
