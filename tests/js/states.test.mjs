import assert from "node:assert/strict";
import { test } from "node:test";

import { States } from "../../vnmi_lab/assets/js/states.js";

const node = (name, nmis = 0) => ({ name, lines: ["none waits"], states: 3, nmis, steps: 2 });
const PAYLOAD = {
  version: 1,
  nodes: [node("KVM"), node("guest", 1), node("guest, in handler", 2)],
  edges: [[0, 1, ["VMRUN"], 2, 1], [1, 0, ["HLT exit"], 1, 0], [1, 2, ["NMI taken"], 1, 0]],
  walk: [[0, "start", "It starts."], [0, "NMI arrives", "One came."], [1, "VMRUN", "It runs."]],
  drawing: { node: [100, 40], places: [[0.5, 50], [1.5, 50], [2.5, 100]] },
};

test("with a counterexample the cursor walks it", () => {
  const states = new States(PAYLOAD);
  assert.equal(states.last, 2);
  assert.deepEqual([0, 1, 2].map((cursor) => states.node(cursor)), [0, 0, 1]);
  assert.deepEqual([0, 1, 2].map((at) => states.place(at)), [0, 2, null]);
  assert.equal(states.sentence(2), "2: It runs. Now guest: none waits.");
});

test("without one it goes from node to node", () => {
  const states = new States({ ...PAYLOAD, walk: [] });
  assert.equal(states.last, 2);
  assert.equal(states.node(2), 2);
  assert.equal(states.place(2), 2);
  assert.equal(states.sentence(1), "1: guest: none waits. First reached after 1 arrival and 2 steps.");
});

test("the ways of a node, out and in", () => {
  const { out, into } = new States(PAYLOAD).ways(1);
  assert.deepEqual(out, [[0, ["HLT exit"], 1, 0], [2, ["NMI taken"], 1, 0]]);
  assert.deepEqual(into, [[0, ["VMRUN"], 2, 1]]);
});

test("a point is in the node whose box it lies in, or in none", () => {
  const states = new States(PAYLOAD);
  assert.equal(states.at(100, 50, 200), 0);
  assert.equal(states.at(340, 65, 200), 1);
  assert.equal(states.at(200, 50, 200), null);
});

test("another version is refused in words", () => {
  assert.throws(() => new States({ version: 2 }), /reads version 1, not 2/);
});
