// What lies between two steps, and what a loop in play goes over.

import { at } from "./run.js";

/** The way from one step to another, either way round: steps, exits, and cycles when the run counts them (else null). */
export function between(run, a, b) {
  const [low, high] = [Math.min(a, b), Math.max(a, b)];
  let exits = 0;
  for (let step = low + 1; step <= high; step++) if (run.p.kinds[step] === "vmexit") exits++;
  const { cycles } = run.p;
  return { steps: high - low, exits, cycles: cycles ? at(cycles, high) - at(cycles, low) : null };
}

/** That way in words: "12 steps, 2 exits, 3,400 cycles". */
export function inWords({ steps, exits, cycles }) {
  const count = (n, what) => `${n.toLocaleString("en")} ${what}${n === 1 ? "" : "s"}`;
  return [count(steps, "step"), count(exits, "exit"), ...(cycles === null ? [] : [count(cycles, "cycle")])].join(", ");
}

/** The first and last step that play goes over: from marker to marker when both are set, else all that may be seen. */
export function loopOver({ a, b }, limit) {
  if (a === null || b === null) return [0, limit];
  return [Math.min(a, b), Math.min(Math.max(a, b), limit)];
}
