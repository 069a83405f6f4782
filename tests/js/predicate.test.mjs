import assert from "node:assert/strict";
import { test } from "node:test";

import { condition, ConditionError, nearNames, numberOf } from "../../vnmi_lab/assets/js/predicate.js";

const STATE = { gif: 0, nmi_mask: 1, v_nmi_pending: 1, event_inj: 0x80000200, r15: "0xffffffffffffffff", IF: null };
const FIELDS = Object.keys(STATE);

function holds(text) {
  return condition(text, FIELDS)((name) => STATE[name]);
}

for (const [text, expected] of [
  ["v_nmi_pending == 1 and gif == 0", true],
  ["v_nmi_pending == 1 and gif == 1", false],
  ["gif or nmi_mask", true],
  ["not gif", true],
  ["not not nmi_mask", true],
  ["!(gif || nmi_mask)", false],
  ["gif && nmi_mask || nmi_mask", true], // "and" binds closer
  ["gif and (nmi_mask or nmi_mask)", false],
  ["not gif == 1", true], // "not" is about the comparison
  ["event_inj == 80000200h", true],
  ["event_inj == 0x80000200", true],
  ["event_inj = 2147484160", true],
  ["event_inj > 80000000h", true],
  ["1 < gif", false],
  ["nmi_mask <= 1 and nmi_mask >= 1 and nmi_mask != 2", true],
  ["r15 == 0xFFFFFFFFFFFFFFFF", true],
  ["r15 == 0xFFFFFFFFFFFFFFFE", false], // exact beyond 53 bits
  ["IF == none", true],
  ["IF == 0", false],
  ["IF < 1", false],
  ["IF", false],
])
  test(`${text} is ${expected}`, () => assert.equal(holds(text), expected));

for (const [text, message] of [
  ["", "character 1: nothing is written yet, try nmi_mask == 1"],
  ["gif ==", "character 7: a field or a number is missing at the end"],
  ["gif == 0 nmi_mask", 'character 10: "nmi_mask" is not expected here; "and" or "or" may follow'],
  ["(gif == 0", 'character 1: this "(" is not closed'],
  ["gif == 0)", 'character 9: ")" is not expected here; "and" or "or" may follow'],
  ["== 0", 'character 1: a field or a number is expected, not "=="'],
  ["gif == 0 and and", 'character 14: a field or a number is expected, not "and"'],
  ["gif == 12q", 'character 8: "12q" is no number; write 12, 0x60 or 80000200h'],
  ["v_nmi_pendin", 'character 1: no field is called "v_nmi_pendin"; near it: v_nmi_pending'],
  ["zebra", 'character 1: no field is called "zebra"; this run has gif, nmi_mask, v_nmi_pending, event_inj, …'],
  ["constructor", /no field is called "constructor"/],
  ["gif; alert(1)", 'character 4: ";" is not expected here; "and" or "or" may follow'],
  ["gif == 😀", 'character 8: a field or a number is expected, not "😀"'],
])
  test(`"${text}" is refused in one line`, () => {
    assert.throws(
      () => condition(text, FIELDS),
      (error) => {
        assert.ok(error instanceof ConditionError);
        if (message instanceof RegExp) assert.match(error.message, message);
        else assert.equal(error.message, message);
        return !error.message.includes("\n");
      },
    );
  });

test("what is too long or too deep is refused, not followed", () => {
  assert.throws(() => condition("(".repeat(400), FIELDS), /more than 50/);
  assert.throws(() => condition("not ".repeat(90) + "gif", FIELDS), /more than 50/);
  assert.throws(() => condition("gif or ".repeat(100) + "gif", FIELDS), /at most 500 characters/);
  assert.equal(holds(Array(49).fill("(gif)").join(" or ")), false); // many beside one another are fine
});

test("numbers as in the source, in KVM and in the APM", () => {
  assert.deepEqual(["12", "0x60", "0A8h", "A8H", "x", "8h8", "-1"].map(numberOf), [12n, 96n, 168n, 168n, null, null, null]);
});

test("names that are near", () => {
  assert.deepEqual(nearNames("NMI_mask", ["gif", "nmi_mask", "nmi_masked"]), ["nmi_mask", "nmi_masked"]);
  assert.deepEqual(nearNames("zebra", ["gif"]), []);
});
