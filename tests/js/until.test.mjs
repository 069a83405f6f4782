import assert from "node:assert/strict";
import { test } from "node:test";

import { places, runUntil, stopsAt, TARGETS } from "../../vnmi_lab/assets/js/until.js";
import { LAST, run } from "./sample.mjs";

const EXPECTED = {
  exit: [5, 10],
  vmrun: [2, 7],
  iret: [8],
  mask: [3, 8], // a field that has no value yet, or none any more, does not change a mask
  delivery: [3],
};

function forward(stops, limit = LAST) {
  const found = [];
  for (let step = runUntil(stops, -1, 1, limit); step >= 0; step = runUntil(stops, step, 1, limit)) found.push(step);
  return found;
}

function backward(stops, limit = LAST) {
  const found = [];
  for (let step = runUntil(stops, limit + 1, -1, limit); step >= 0; step = runUntil(stops, step, -1, limit))
    found.push(step);
  return found;
}

for (const [target, steps] of Object.entries(EXPECTED))
  test(`run until ${target}, and back: the same steps the other way`, () => {
    const stops = stopsAt(run(), target);
    assert.deepEqual(forward(stops), steps);
    assert.deepEqual(backward(stops), [...steps].reverse());
  });

test("from any step, what run until finds is left again by running back", () => {
  for (const target of Object.keys(EXPECTED)) {
    const stops = stopsAt(run(), target);
    for (let from = 0; from <= LAST; from++) {
      const there = runUntil(stops, from, 1, LAST);
      if (there < 0) continue;
      const back = runUntil(stops, there, -1, LAST);
      assert.ok(back <= from, `${target}: ${from} to ${there}, and back to ${back}`);
      if (stops(from)) assert.equal(back, from);
    }
  }
});

test("a line of the code stops where that line runs, not where an event interrupts it", () => {
  assert.deepEqual(forward(stopsAt(run(), "line", 0x1007)), [9]);
  assert.deepEqual(forward(stopsAt(run(), "line", String(0x2000))), [4]);
  assert.deepEqual(forward(stopsAt(run(), "line", 0x3000)), []);
});

test("the places of the code are its lines, labels named", () => {
  assert.deepEqual(places(run())[1], [0x1007, "again", "nop"]);
  assert.deepEqual(places(run())[0], [0x1000, "", "mov rcx, 5"]);
});

test("a condition stops where it becomes true", () => {
  assert.deepEqual(forward(stopsAt(run(), "condition", "nmi_mask == 1")), [3]);
  assert.deepEqual(forward(stopsAt(run(), "condition", "nmi_mask == 0")), [0, 8]);
  assert.deepEqual(forward(stopsAt(run(), "condition", "nmi_mask == 0 and nmi_latch")), [1]);
});

test("nothing is found beyond the limit, and nothing to be found is -1", () => {
  assert.deepEqual(forward(stopsAt(run(), "exit"), 9), [5]);
  assert.equal(runUntil(stopsAt(run(), "exit"), 5, 1, 9), -1);
  assert.equal(runUntil(stopsAt(run(), "exit"), 5, -1, 9), -1);
});

test("a target nobody knows is refused", () => {
  assert.throws(() => stopsAt(run(), "tea"), /a run can stop at exit, vmrun/);
  assert.equal(TARGETS.length, Object.keys(EXPECTED).length + 2);
});
