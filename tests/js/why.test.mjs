import assert from "node:assert/strict";
import { test } from "node:test";

import { answers, pressing } from "../../vnmi_lab/assets/js/why.js";

const KVM = "KVM",
  TAKER = "processor, virtual NMI";
const BLOCKED = {
  conditions: [
    ["GIF", "GIF is 0.", "STGI", "source"],
    ["mask", "An NMI is in service.", "its IRET", "source"],
    ["guest runs", "The guest is running.", "its next exit", "source"],
  ],
  answers: [
    [{ who: KVM, verdict: 1, waits: 0, decides: null, held: [[0, 0], [1, 0]] }],
    [{ who: KVM, verdict: 0, waits: 1, decides: 1, held: [[0, 0], [1, 1]], note: "noted" }],
    [
      { who: KVM, verdict: null, waits: 0, decides: 2, held: [[2, 1]] },
      { who: TAKER, verdict: 0, waits: 1, decides: 1, held: [[1, 1]] },
    ],
    [{ who: KVM, verdict: -16, waits: 1, decides: 0, held: [[0, 1], [1, 0]] }],
  ],
  at: [0, 0, 2, 1, 5, 2, 8, 3],
  ends: { [KVM]: [0, null, 2, 8, 5, 8, 8, null], [TAKER]: [0, null, 5, 7, 7, null] },
};

test("an answer says who is asked, what decides, and until when", () => {
  const [open] = answers(BLOCKED, 1);
  assert.deepEqual([open.state, open.end, open.sentence], ["open", null, ""]);
  const [masked] = answers(BLOCKED, 4);
  assert.deepEqual([masked.state, masked.name, masked.ends, masked.end, masked.note], ["blocked", "mask", "its IRET", 8, "noted"]);
  assert.deepEqual(masked.held, [["GIF", false, false], ["mask", true, true]]);
  assert.match(answers(BLOCKED, 9)[0].verdict, /EBUSY/);
});

test("who is not asked and has nothing waiting is away", () => {
  assert.deepEqual(answers(BLOCKED, 5).map((one) => one.state), ["away", "blocked"]);
});

test("what the kernel in a browser leaves out counts as nothing", () => {
  const without = (key, value) => (value === null ? undefined : value); // as it comes through JSON there
  const sent = JSON.parse(JSON.stringify(BLOCKED.answers, without));
  assert.ok(!("decides" in sent[0][0]));
  for (const step of [1, 5]) assert.deepEqual(answers({ ...BLOCKED, answers: sent }, step), answers(BLOCKED, step));
});

test("the jump is that of the party with an NMI waiting, and never beyond what may be seen", () => {
  assert.equal(pressing(answers(BLOCKED, 5)).end, 7);
  assert.equal(pressing(answers(BLOCKED, 5, 6)), null);
  assert.equal(pressing(answers(BLOCKED, 1)), null);
  assert.equal(pressing(answers(BLOCKED, 8)), null);
});

test("before the first step there is no answer", () => {
  assert.deepEqual(answers({ ...BLOCKED, at: [] }, 0), []);
});
