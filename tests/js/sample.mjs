// A small run, written by hand: what the tests of the player's logic look at.

import { Run } from "../../vnmi_lab/assets/js/run.js";

const STEPS = [
  // kind, text, RIP, the mask, the pending bit after the step
  ["exec", "mov rcx, 5", 0x1000, 0, 0],
  ["stimulus", "NMI arrives", 0x1007, 0, 1],
  ["vmrun", "VMRUN", 0x1007, 0, 1],
  ["deliver", "NMI taken", 0x1007, 1, 0],
  ["exec", "nop", 0x2000, 1, 0],
  ["vmexit", "#VMEXIT IRET (74h)", 0x2001, 1, 0],
  ["kvm", "KVM: iret_interception", 0x2001, 1, 0],
  ["vmrun", "VMRUN", 0x2001, 1, 0],
  ["exec", "iretq", 0x2001, 0, 0],
  ["exec", "nop", 0x1007, 0, 0],
  ["vmexit", "#VMEXIT HLT (78h)", 0x1008, 0, 0],
];

function column(values) {
  return values.flatMap((value, step) => (step && values[step - 1] === value ? [] : [step, value]));
}

/** A payload of version `version`; `more` replaces keys of it. */
export function payload(more = {}) {
  const words = [...new Set(STEPS.flatMap(([, text]) => [text, `${text}, in a sentence.`]))];
  return {
    version: 2,
    title: "a sample",
    steps: STEPS.length,
    kinds: STEPS.map(([kind]) => kind),
    text: STEPS.map(([, text]) => words.indexOf(text)),
    sentence: STEPS.map(([, text]) => words.indexOf(`${text}, in a sentence.`)),
    words,
    columns: { at: column(STEPS.map(([, , rip]) => rip)), row: [0, 0], owner: [0, "main"], world: [0, "guest"] },
    state: {
      nmi_mask: column(STEPS.map(([, , , mask]) => mask)),
      nmi_latch: column(STEPS.map(([, , , , pending]) => pending)),
      live_v_nmi_blocking: [0, null, 2, 0, 5, null],
      event_inj: [0, 0, 2, 0x80000200, 3, 0],
      r15: [0, "0xffffffffffffffff"],
    },
    fields: [["nmi_mask", "NMI", "bit", "physical mask", false]],
    flags: [],
    changes: [
      [3, "R-NMI-TAKE", "nmi_mask", 0, 1],
      [8, "R-IRET-UNMASK", "nmi_mask", 1, 0],
    ],
    stack: { base: [0, 0], height: [0, 0], words: {}, notes: {} },
    code: [
      [0x1000, "48", "mov rcx, 5", null, "main"],
      [0x1007, "90", "nop", "again", "main"],
      [0x2000, "90", "nop", "nmi", "h2"],
      [0x2001, "48 cf", "iretq", null, "h2"],
    ],
    rules: {},
    events: [1, 2, 3],
    calls: {
      functions: [["iret_interception", "svm/svm.c", "does something"]],
      paths: [[[0, 0]]],
      at: [[6, 0]],
      lane: [],
    },
    marks: [[1, "nmi", "NMI"]],
    crossings: [],
    worlds: [],
    handlers: [],
    waves: [],
    links: [],
    instances: [],
    visible_until: null,
    ...more,
  };
}

export function run(more) {
  return new Run(payload(more));
}

export const LAST = STEPS.length - 1;
