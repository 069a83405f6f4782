import assert from "node:assert/strict";
import { test } from "node:test";

import { flagSaid, flagsSeen } from "../../vnmi_lab/assets/js/flags.js";
import { hasBit, hexadecimal, withBit } from "../../vnmi_lab/assets/js/predict.js";

const GIVEN = [
  [3, "given", "it arrives"],
  [9, "machine", "it is taken"],
];

test("flags behind what may be seen are not there", () => {
  assert.deepEqual(flagsSeen(GIVEN, "", null, 9), GIVEN);
  assert.deepEqual(flagsSeen(GIVEN, "", null, 8), [GIVEN[0]]);
});

test("the flag that is being placed stands behind the others, once it has a place", () => {
  assert.deepEqual(flagsSeen([], "it is taken", 0, 5), [[0, "you", "it is taken"]]);
  assert.deepEqual(flagsSeen(GIVEN, "it is taken", null, 9), GIVEN);
  assert.deepEqual(flagsSeen(GIVEN, "", 4, 9), GIVEN); // nothing is placed any more
  assert.deepEqual(flagsSeen([], "it is taken", 6, 5), []);
});

test("a flag says whose it is", () => {
  assert.equal(flagSaid([1, "given", "it arrives"]), "it arrives");
  assert.equal(flagSaid([1, "you", "it is taken"]), "you: it is taken");
  assert.equal(flagSaid([1, "machine", "it is taken"]), "the machine: it is taken");
  assert.equal(flagSaid([1, "nobody", "it is taken"]), "it is taken");
});

test("bits of a word, the 31st and beyond included", () => {
  const word = 0x84000800;
  for (const [bit, on] of [[11, true], [12, false], [26, true], [31, true], [33, false]]) {
    assert.equal(hasBit(word, bit), on);
    assert.equal(withBit(word, bit, on), word);
    assert.equal(hasBit(withBit(word, bit, !on), bit), !on);
    assert.equal(withBit(withBit(word, bit, !on), bit, on), word);
  }
  assert.equal(withBit(0, 33, true), 2 ** 33);
});

test("a word as the manuals write it", () => {
  assert.equal(hexadecimal(0x4000800), "04000800h");
  assert.equal(hexadecimal(2 ** 33), "200000000h");
});
