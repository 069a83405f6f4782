// A payload, read: columns, states and how values are written. Knows nothing of the page.

const VERSION = 2;
const DECODER = new TextDecoder();
const STYLES = new Set([
  "main",
  "nmi",
  "other",
  "intr",
  "host",
  "bare",
  "guest",
  "mask",
  "pend",
  "bus",
  "plain",
  "shadow",
]);
const SHADOWS = ["", "STI", "MOV SS"];
const REQUESTS = ["NMI", "EVENT", "SMI"];

/** The payload that a model holds: as bytes from a kernel, or as it is; undefined where none has come yet. */
export function payloadOf(model) {
  const sent = model.get("sent");
  return sent?.byteLength ? JSON.parse(DECODER.decode(sent)) : model.get("payload");
}

/** A payload with the lookups the views need; knows nothing of the page. */
export class Run {
  constructor(payload) {
    if (!payload || payload.version !== VERSION) {
      throw new Error(`this player reads payload version ${VERSION}, not ${payload ? payload.version : "nothing"}`);
    }
    this.p = payload;
    this.length = payload.steps;
    this.whole = payload.whole ?? payload.steps; // more where the rest is still to come
    this.changes = new Map();
    for (const change of payload.changes) {
      if (!this.changes.has(change[0])) this.changes.set(change[0], []);
      this.changes.get(change[0]).push(change);
    }
    this.forms = new Map(payload.fields.map(([key, , form]) => [key, form]));
    this.moving = new Set(payload.waves.filter((wave) => !wave.quiet).map((wave) => wave.key));
    this.paths = new Map(payload.calls.at);
    this.kvm = this.paths.size > 0;
    this.micro = new Map(payload.micro?.at);
    this.inner = null;
  }
  /** The sub-steps of a step: [label, rule, sentence, [[key, value], ...]]. */
  subs(step) {
    const { rules, subs } = this.p.micro || {};
    return (this.micro.get(step) || []).map((sub) => [...rules[subs[sub][0]], subs[sub][1]]);
  }
  /** Look inside a step: from now on it is read as it is after its sub-step `sub`; null reads it whole again. */
  look(step, sub) {
    this.inner = null;
    const subs = this.subs(step);
    if (sub === null || sub >= subs.length) return;
    const sets = (count) => new Map(subs.slice(0, count).flatMap(([, , , set]) => set));
    this.inner = { step, sub, old: sets(sub), now: sets(sub + 1) };
  }
  /** What a field is inside a step, after the sub-steps whose sets are given. */
  within(key, step, sets) {
    if (sets.has(key)) return sets.get(key);
    return step > 0 ? at(this.p.state[key], step - 1) : (this.first(key) ?? at(this.p.state[key], 0));
  }
  first(key) {
    return (this.changes.get(0) || []).find((change) => change[2] === key)?.[3];
  }
  /** What a step is called and the sentence it says; of its sub-step when one is looked at. */
  saying(step) {
    if (this.inner?.step !== step) return [this.text(step), this.sentence(step)];
    const [label, , sentence] = this.subs(step)[this.inner.sub];
    return [label, sentence];
  }
  /** The changes of a step, or of the sub-step that is looked at: [step, rule, field, old, new]. */
  news(step) {
    if (this.inner?.step !== step) return this.changes.get(step) || [];
    const [, rule, , set] = this.subs(step)[this.inner.sub];
    return set
      .map(([key, now]) => [step, rule, key, this.within(key, step, this.inner.old), now])
      .filter(([, , , old, now]) => old !== now);
  }
  /** The step whose stack is on top: inside a step the one before, until RSP has moved. */
  stacked(step) {
    const whole = this.inner?.step !== step || step === 0 || this.state("rsp", step) === at(this.p.state.rsp, step);
    return whole ? step : step - 1;
  }
  /** How deep handlers are nested in the steps up to a limit: what is hidden must not show in the lanes. */
  depth(limit) {
    return Math.max(...runs(this.p.columns.row, 0, limit + 1).map((run) => run[2]));
  }
  /** The KVM functions that ran in a step: [depth, name, file, what it does]. */
  calls(step) {
    const { functions, paths } = this.p.calls;
    return (paths[this.paths.get(step)] || []).map(([depth, which]) => [depth, ...functions[which]]);
  }
  text(step) {
    return this.p.words[this.p.text[step]];
  }
  sentence(step) {
    return this.p.words[this.p.sentence[step]];
  }
  state(key, step) {
    return this.inner?.step === step ? this.within(key, step, this.inner.now) : at(this.p.state[key], step);
  }
  column(key, step) {
    return at(this.p.columns[key], step);
  }
  /** Whether a lane shows a field; under KVM changes of int_ctl, EVENTINJ and the intercepts name their bits. */
  isNews(field) {
    const name = field.replace(/^vmcb\./, "").replace("intercept_3.iret", "iret_intercept");
    return this.moving.has(name) || (this.kvm && name.split(".").some((part) => this.moving.has(part)));
  }
  /** What a field was before a step that changed it, undefined if the step did not. */
  before(key, step) {
    if (this.inner?.step === step) {
      const old = this.within(key, step, this.inner.old);
      return old === this.state(key, step) ? undefined : old;
    }
    const flat = this.p.state[key],
      index = seekColumn(flat, step);
    if (step > 0) return flat[2 * index] === step ? flat[2 * index - 1] : undefined;
    return this.first(key);
  }
  /** A value as its field asks; a change names "vmcb.rip" for what the VMCB holds and "[0x1000]" for memory. */
  written(key, value) {
    return written(key.startsWith("[") ? "register" : this.forms.get(key.replace(/^vmcb\./, "")) || "vmcb", value);
  }
}

/** Index of the last entry of a column that starts at or before a step, -1 if none. */
export function seekColumn(flat, step) {
  let low = 0,
    high = flat.length / 2;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (flat[2 * middle] <= step) low = middle + 1;
    else high = middle;
  }
  return low - 1;
}

export function at(flat, step) {
  const index = flat ? seekColumn(flat, step) : -1;
  return index < 0 ? null : flat[2 * index + 1];
}

/** The runs of a column that touch [from, to): [first, end, value]. */
export function runs(flat, from, to) {
  const found = [];
  for (let i = Math.max(0, seekColumn(flat, from)); 2 * i < flat.length && flat[2 * i] < to; i++) {
    const end = 2 * i + 2 < flat.length ? flat[2 * i + 2] : Infinity;
    found.push([flat[2 * i], Math.min(end, to), flat[2 * i + 1]]);
  }
  return found;
}

/** A value as its form asks; words that are no number stay as they are. */
export function written(form, value) {
  if (value === null || value === undefined) return "none";
  const digits = typeof value === "number" ? value.toString(16) : /^0x[0-9a-f]+$/.test(value) ? value.slice(2) : null;
  if (digits === null) return String(value);
  if (form === "vmcb") return `${digits.toUpperCase()}h`;
  if (form === "address" || form === "register" || form === "flags") return `0x${digits}`;
  if (form === "shadow") return SHADOWS[value] || (value ? String(value) : "none");
  if (form === "requests") return REQUESTS.filter((_, bit) => (value >> bit) & 1).join(" ") || "none";
  return String(value);
}

/** Whether a value has a bit of a mask that is one bit, or is not 0 when the mask is all bits. */
export function isHigh(value, mask) {
  if (!value || mask < 0) return Boolean(value);
  return (BigInt(value) & BigInt(mask)) !== 0n;
}

export function style(name) {
  return `vl-s-${STYLES.has(name) ? name : "plain"}`;
}

export function clamp(value, low, high) {
  return Math.max(low, Math.min(high, value));
}
