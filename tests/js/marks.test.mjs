import assert from "node:assert/strict";
import { test } from "node:test";

import { standing, standsAt } from "../../vnmi_lab/assets/js/link.js";
import { between, inWords, loopOver } from "../../vnmi_lab/assets/js/marks.js";
import { nextHit, stepsWith } from "../../vnmi_lab/assets/js/search.js";
import { LAST, run } from "./sample.mjs";

test("between two markers: steps, exits, and cycles where they are counted", () => {
  assert.deepEqual(between(run(), 2, 10), { steps: 8, exits: 2, cycles: null });
  assert.deepEqual(between(run(), 10, 2), between(run(), 2, 10));
  assert.deepEqual(between(run(), 5, 9), { steps: 4, exits: 0, cycles: null }); // an exit belongs to the way to it
  assert.deepEqual(between(run({ cycles: [0, 1, 4, 900, 6, 2901] }), 0, 6), { steps: 6, exits: 1, cycles: 2900 });
});

test("that way in words", () => {
  assert.equal(inWords({ steps: 1, exits: 0, cycles: null }), "1 step, 0 exits");
  assert.equal(inWords({ steps: 12, exits: 1, cycles: 3400 }), "12 steps, 1 exit, 3,400 cycles");
});

test("a loop goes over the markers when both are set, and never past what may be seen", () => {
  assert.deepEqual(loopOver({ a: null, b: 4 }, 10), [0, 10]);
  assert.deepEqual(loopOver({ a: 7, b: 4 }, 10), [4, 7]);
  assert.deepEqual(loopOver({ a: 4, b: 9 }, 6), [4, 6]);
});

for (const [text, steps] of [
  ["vmexit", [5, 10]],
  ["IRETQ", [8]],
  ["r-iret-unmask", [8]],
  ["nmi_mask", [3, 8]],
  ["svm.c", [6]],
  ["iret_inter", [6]],
  ["no such thing", []],
  ["  ", []],
])
  test(`search for "${text}"`, () => assert.deepEqual(stepsWith(run(), text, LAST), steps));

test("search gives nothing away that may not be seen yet", () => {
  assert.deepEqual(stepsWith(run(), "vmexit", 9), [5]);
  assert.deepEqual(stepsWith(run(), "R-IRET", 7), []);
  assert.deepEqual(stepsWith(run(), "svm.c", 5), []);
});

test("hits are gone through in both directions, around the ends", () => {
  assert.deepEqual([0, 5, 10].map((step) => nextHit([5, 10], step, 1)), [5, 10, 5]);
  assert.deepEqual([0, 5, 10].map((step) => nextHit([5, 10], step, -1)), [10, 10, 5]);
  assert.equal(nextHit([], 3, 1), -1);
});

test("linked cursors: step by step in runs of equal length, by stimulus in others", () => {
  const [one, same] = [run(), run()];
  for (const step of [0, 4, LAST]) assert.equal(standsAt(same, standing(one, step)), step);
  const other = run({ steps: 9, marks: [[0, "host", "KVM_RUN"], [3, "nmi", "NMI"]] });
  assert.deepEqual([0, 1, 2, 6].map((step) => standsAt(other, standing(one, step))), [0, 3, 4, 8]);
  assert.deepEqual([0, 2, 3, 8].map((step) => standsAt(one, standing(other, step))), [0, 0, 1, 6]);
  const none = run({ steps: 6, marks: [] });
  assert.equal(standsAt(none, standing(one, 4)), 5); // a stimulus that never comes there is past its end
});
