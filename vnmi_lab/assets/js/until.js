// Run until something: which steps a run may stop at, and the nearest of them either way.

import { at } from "./run.js";
import { condition } from "./predicate.js";

const MASKS = ["nmi_mask", "nmi_masked", "v_nmi_blocking", "live_v_nmi_blocking"];

/** What a run can stop at: id, and what it is called. The last two need to be told what. */
export const TARGETS = [
  ["exit", "#VMEXIT"],
  ["vmrun", "VMRUN"],
  ["iret", "IRET"],
  ["mask", "a mask changes"],
  ["delivery", "a delivery"],
  ["line", "a line of the code"],
  ["condition", "a condition holds"],
];

/** Whether a step is one that a run stops at: `stops(step)`. Throws ConditionError for a condition that is none. */
export function stopsAt(run, target, detail) {
  const { kinds, columns, state } = run.p;
  const kind = (name) => (step) => kinds[step] === name;
  const moved = (key) => new Set((state[key] || []).filter((_, n) => n % 2 === 0 && n > 0));
  if (target === "exit") return kind("vmexit");
  if (target === "vmrun") return kind("vmrun");
  if (target === "delivery") return kind("deliver");
  if (target === "iret") return (step) => kinds[step] === "exec" && /^iret/.test(run.text(step));
  if (target === "line") return (step) => kinds[step] === "exec" && String(at(columns.at, step)) === String(detail);
  if (target === "mask") {
    const steps = new Set(MASKS.flatMap((key) => [...moved(key)].filter((step) => known(state[key], step))));
    return (step) => steps.has(step);
  }
  if (target !== "condition") throw new Error(`a run can stop at ${TARGETS.map(([id]) => id).join(", ")}: ${target}`);
  const holds = condition(detail, Object.keys(state));
  const after = (step) => holds((key) => at(state[key], step));
  return (step) => after(step) && (step === 0 || !after(step - 1)); // where it becomes true
}

/** Whether a column had a value before the one that begins at a step. */
function known(flat, step) {
  return at(flat, step - 1) !== null && at(flat, step) !== null;
}

/** The nearest step after (way 1) or before (way -1) `from` that stops a run, up to `limit`; -1 when there is none. */
export function runUntil(stops, from, way, limit) {
  for (let step = from + way; step >= 0 && step <= limit; step += way) if (stops(step)) return step;
  return -1;
}

/** The places of the code: [address, label or "", text], in the order of the listing. */
export function places(run) {
  return run.p.code.map(([address, , text, label]) => [address, label || "", text]);
}
