// Inside a step: what is read after each of its sub-steps.

import assert from "node:assert/strict";
import { test } from "node:test";

import { run } from "./sample.mjs";

// Step 3 of the sample takes the NMI: nmi_mask 0 to 1, nmi_latch 1 to 0, event_inj 80000200h to 0.
const MICRO = {
  rules: [
    ["the latch is cleared", "R-1", "The latch is cleared."],
    ["NMIs are masked", "R-2", "NMIs are masked."],
  ],
  subs: [
    [0, [["nmi_latch", 0]]],
    [1, [["nmi_mask", 1], ["event_inj", 0]]],
  ],
  at: [[3, [0, 1]]],
};

const FIELDS = ["nmi_latch", "nmi_mask", "event_inj", "r15"];

function state(inside, step) {
  return FIELDS.map((key) => inside.state(key, step));
}

test("sub-steps lead from the state before to the state after", () => {
  const inside = run({ micro: MICRO });
  const [before, after] = [state(inside, 2), state(inside, 3)];
  inside.look(3, 0);
  assert.deepEqual(state(inside, 3), [0, 0, 0x80000200, before[3]]);
  inside.look(3, 1);
  assert.deepEqual(state(inside, 3), after);
  assert.deepEqual(state(inside, 2), before); // other steps stay as they are
  inside.look(3, null);
  assert.deepEqual(state(inside, 3), after);
});

test("a sub-step says what it changed, by which rule, and what that was before", () => {
  const inside = run({ micro: MICRO });
  inside.look(3, 0);
  assert.deepEqual(inside.saying(3), ["the latch is cleared", "The latch is cleared."]);
  assert.deepEqual(inside.news(3), [[3, "R-1", "nmi_latch", 1, 0]]);
  assert.equal(inside.before("nmi_latch", 3), 1);
  assert.equal(inside.before("nmi_mask", 3), undefined);
  inside.look(3, 1);
  assert.deepEqual(inside.news(3), [
    [3, "R-2", "nmi_mask", 0, 1],
    [3, "R-2", "event_inj", 0x80000200, 0],
  ]);
  assert.equal(inside.before("nmi_latch", 3), undefined); // the sub-step before did that
});

test("a step without sub-steps is read whole, whatever is asked", () => {
  const inside = run({ micro: MICRO });
  inside.look(4, 0);
  assert.equal(inside.inner, null);
  assert.equal(inside.saying(4)[0], "nop");
  inside.look(3, 2);
  assert.equal(inside.inner, null);
  assert.deepEqual(inside.subs(4), []);
  assert.deepEqual(run().subs(3), []);
});

test("the stack is that of the step before until RSP has moved", () => {
  const rsp = { rsp: [0, 0x8000, 3, 0x7fd8] };
  const micro = { rules: MICRO.rules, subs: [[0, []], [1, [["rsp", 0x7fd8]]]], at: [[3, [0, 1]]] };
  const inside = run({ micro });
  Object.assign(inside.p.state, rsp);
  inside.look(3, 0);
  assert.equal(inside.stacked(3), 2);
  inside.look(3, 1);
  assert.equal(inside.stacked(3), 3);
  inside.look(3, null);
  assert.equal(inside.stacked(3), 3);
});
