import assert from "node:assert/strict";
import { test } from "node:test";

import { classes, fitting, lines, way } from "../../vnmi_lab/assets/js/shapes.js";
import { Sides } from "../../vnmi_lab/assets/js/sides.js";

const PAYLOAD = {
  version: 1,
  columns: 6,
  runs: [
    { name: "legacy", steps: 4, where: [0, 1, 2, 4], text: [0, 1, 2, 0], sentence: [1, 1, 1, 1], words: ["nop", "VMRUN", "hlt"] },
    { name: "vnmi", steps: 2, where: [1, 5], text: [0, 0], sentence: [0, 0], words: ["nop"] },
  ],
  stops: [0, 3, 5],
  counts: { head: ["arrived", "IRET"], rows: [["legacy", 1, 2], ["vnmi", 1, 0]] },
  divergences: [[4, 0, 1, "a", "b", 3, 1]],
};

test("a column shows the step that is there, or the last one before it", () => {
  const sides = new Sides(PAYLOAD);
  assert.deepEqual([0, 1, 2, 3, 4, 5].map((column) => sides.step(0, column)), [
    [0, true], [1, true], [2, true], [2, false], [3, true], [3, false],
  ]);
  assert.deepEqual(sides.step(1, 0), [-1, false]);
  assert.equal(sides.said(1, 0).text, "");
  assert.equal(sides.said(0, 5).over, true);
});

test("one sentence says what each policy does in a column", () => {
  const sides = new Sides(PAYLOAD);
  assert.equal(sides.sentence(3), "Column 3. legacy: nothing to do; vnmi: nothing to do.");
  assert.equal(sides.sentence(5), "Column 5. legacy: at its end; vnmi: nop.");
});

test("from difference to difference, and no further than the ends", () => {
  const sides = new Sides(PAYLOAD);
  assert.deepEqual([0, 3, 5].map((column) => sides.stop(column, 1)), [3, 5, 5]);
  assert.deepEqual([5, 4, 0].map((column) => sides.stop(column, -1)), [3, 3, 0]);
  assert.equal(sides.diverged, 4);
  assert.deepEqual(sides.differing(), [false, false, true]);
});

test("another version is refused in words", () => {
  assert.throws(() => new Sides({ version: 9 }), /reads version 1, not 9/);
  assert.throws(() => new Sides(null), /not nothing/);
});

test("a text is written whole, short, small, or not at all", () => {
  assert.deepEqual(fitting(["in service", "NMI"], 0), ["in service", false]);
  assert.deepEqual(fitting(["in service", "NMI"], 70), ["in service", false]);
  assert.deepEqual(fitting(["in service", "NMI"], 30), ["NMI", false]);
  assert.deepEqual(fitting(["in service", "NMI"], 21), ["NMI", true]);
  assert.deepEqual(fitting(["in service", "NMI"], 10), ["", false]);
});

test("shapes scale with the axis, and hues become styles", () => {
  assert.equal(way(["path", [[1, -2, 5], [2, 0, 9]], "low"], 10), "M8 5L20 9");
  assert.equal(way(["path", [[0, 0, 0], [1, 0, 0]], "pend fill"], 10), "M0 0L10 0z");
  assert.equal(lines(["hatch", 0, 2, 0, 10, 0, "pend hatch"], 5), "M3 10l0 -10");
  assert.equal(classes("pend fill"), "vl-s-pend vl-fill");
});
