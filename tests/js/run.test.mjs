// A payload, read: columns, runs, values as they are written, levels.

import assert from "node:assert/strict";
import { test } from "node:test";

import { at, clamp, isHigh, Run, runs, seekColumn, style, written } from "../../vnmi_lab/assets/js/run.js";
import { payload, run } from "./sample.mjs";

const FLAT = [0, "a", 3, "b", 4, "c", 9, "d"];

test("a column holds a value from its step until the next one", () => {
  const expected = [..."aaabcccccd", "d"];
  assert.deepEqual(
    expected.map((_, step) => at(FLAT, step)),
    expected,
  );
  assert.equal(at(FLAT, 1_000_000), "d");
});

test("before its first entry, and where there is none, a column has no value", () => {
  assert.equal(at([5, 1], 4), null);
  assert.equal(seekColumn([5, 1], 4), -1);
  assert.equal(at([], 0), null);
  assert.equal(at(undefined, 0), null);
});

test("a search in a column finds what a walk through it finds", () => {
  const steps = [0, 1, 2, 4, 8, 9, 10, 17, 30];
  const flat = steps.flatMap((step) => [step, step * step]);
  for (let step = 0; step < 40; step++) {
    const last = steps.filter((start) => start <= step).at(-1);
    assert.equal(at(flat, step), last * last);
  }
});

test("runs are those that touch a window, cut at its end and not at its beginning", () => {
  assert.deepEqual(runs(FLAT, 0, 20), [
    [0, 3, "a"],
    [3, 4, "b"],
    [4, 9, "c"],
    [9, 20, "d"],
  ]);
  assert.deepEqual(runs(FLAT, 5, 8), [[4, 8, "c"]]);
  assert.deepEqual(runs(FLAT, 3, 4), [[3, 4, "b"]]);
  assert.deepEqual(runs([2, 1], 0, 2), []);
});

test("values are written as their field asks", () => {
  for (const [form, value, text] of [
    ["bit", 1, "1"],
    ["count", 12, "12"],
    ["vmcb", 0x80000200, "80000200h"],
    ["vmcb", 0, "0h"],
    ["address", 0x2000, "0x2000"],
    ["register", "0xffffffffffffffff", "0xffffffffffffffff"],
    ["vmcb", "0xffffffffffffffff", "FFFFFFFFFFFFFFFFh"],
    ["shadow", 0, "none"],
    ["shadow", 1, "STI"],
    ["shadow", 2, "MOV SS"],
    ["requests", 0, "none"],
    ["requests", 3, "NMI EVENT"],
    ["bit", null, "none"],
    ["address", undefined, "none"],
    ["address", "not a number", "not a number"],
  ])
    assert.equal(written(form, value), text, `${value} as ${form}`);
});

test("a value is high by the bits of its mask, beyond 32 of them, too", () => {
  const VALID = 0x80000000;
  for (const [value, mask, high] of [
    [0, -1, false],
    [null, -1, false],
    [2, -1, true],
    [0x200, VALID, false],
    [0x80000200, VALID, true],
    ["0x8000000000000000", VALID, false],
    ["0x8000000080000000", VALID, true],
    ["0x1", -1, true],
  ])
    assert.equal(isHigh(value, mask), high, `${value} & ${mask}`);
});

test("a name that is no style becomes plain, so no text of a run gets into a class", () => {
  assert.equal(style("nmi"), "vl-s-nmi");
  assert.equal(style('x" onload="alert(1)'), "vl-s-plain");
});

test("a number is kept between two others", () => {
  assert.deepEqual([clamp(-1, 0, 9), clamp(4, 0, 9), clamp(10, 0, 9)], [0, 4, 9]);
});

test("a run gives the state after a step, and what a field was before a step that changed it", () => {
  const sample = run();
  assert.deepEqual([2, 3, 7, 8].map((step) => sample.state("nmi_mask", step)), [0, 1, 1, 0]);
  assert.equal(sample.before("nmi_mask", 3), 0);
  assert.equal(sample.before("nmi_mask", 8), 1);
  assert.equal(sample.before("nmi_mask", 4), undefined);
  assert.equal(sample.before("nmi_mask", 0), undefined);
  assert.equal(run({ changes: [[0, "R", "nmi_mask", 1, 0]] }).before("nmi_mask", 0), 1);
});

test("a run gives each step its words, changes and KVM functions", () => {
  const sample = run();
  assert.equal(sample.text(5), "#VMEXIT IRET (74h)");
  assert.equal(sample.sentence(8), "iretq, in a sentence.");
  assert.deepEqual(sample.changes.get(8), [[8, "R-IRET-UNMASK", "nmi_mask", 1, 0]]);
  assert.equal(sample.changes.get(9), undefined);
  assert.deepEqual(sample.calls(6), [[0, "iret_interception", "svm/svm.c", "does something"]]);
  assert.deepEqual(sample.calls(7), []);
});

test("how deep handlers are nested is said of the steps up to a limit only", () => {
  const columns = { ...payload().columns, row: [0, 0, 4, 1, 7, 2] };
  assert.deepEqual([3, 4, 6, 7].map((limit) => run({ columns }).depth(limit)), [0, 1, 1, 2]);
});

test("a payload of another version is refused in one sentence", () => {
  assert.throws(() => new Run(payload({ version: 99 })), /reads payload version \d+, not 99/);
  assert.throws(() => new Run(undefined), /not nothing/);
});
