// A payload, read: columns, states and how values are written. Knows nothing of the page.

const VERSION = 2;
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

/** A payload with the lookups the views need; knows nothing of the page. */
export class Run {
  constructor(payload) {
    if (!payload || payload.version !== VERSION) {
      throw new Error(`this player reads payload version ${VERSION}, not ${payload ? payload.version : "nothing"}`);
    }
    this.p = payload;
    this.length = payload.steps;
    this.changes = new Map();
    for (const change of payload.changes) {
      if (!this.changes.has(change[0])) this.changes.set(change[0], []);
      this.changes.get(change[0]).push(change);
    }
    this.forms = new Map(payload.fields.map(([key, , form]) => [key, form]));
    this.moving = new Set(payload.waves.filter((wave) => !wave.quiet).map((wave) => wave.key));
    this.paths = new Map(payload.calls.at);
    this.kvm = this.paths.size > 0;
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
    return at(this.p.state[key], step);
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
    const flat = this.p.state[key],
      index = seekColumn(flat, step);
    if (step > 0) return flat[2 * index] === step ? flat[2 * index - 1] : undefined;
    return (this.changes.get(0) || []).find((change) => change[2] === key)?.[3];
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
