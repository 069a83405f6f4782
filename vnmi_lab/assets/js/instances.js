// The lane of NMIs: a bar for each, which rises from arrived to pending to in service, and a word for how it ended.

import { s } from "./nodes.js";
import { style } from "./run.js";

const NMI_BAR = 23; // px, from one bar to the next
const NMI_LEVELS = { arrived: 4, pending: 12, "in service": 17 }; // px, heights of a bar
const NMI_NAMED = 52; // px, room for the word "pending"
const NMI_LOOKS = { arrived: "plain", pending: "pend", "in service": "nmi" };
const NMI_HATCHES = { pending: "pend", "in service": "mask" };
const NMI_GLYPHS = {
  done: "M3 -6l3 3l5 -7",
  coalesced: "M3 -6h8M8 -9l3 3l-3 3",
  lost: "M4 -10l7 8M11 -10l-7 8",
  extra: "M7 -11v5M7 -3.5v1.5",
};

/** The NMIs that came up to a limit, those without a row included. */
function nmisUntil(run, limit) {
  return run.p.instances.filter(({ spans }) => spans[0][0] <= limit);
}

/** How high the lane is: what is hidden must not show in it. */
export function nmiHeight(run, limit) {
  const found = nmisUntil(run, limit);
  const rows = Math.max(0, ...found.map(({ row }) => (row === null ? 0 : row + 1)));
  return rows && 11 + NMI_BAR * rows + (found.some(({ row }) => row === null) ? 15 : 0);
}

/** How an NMI ended, in words, the longest first. */
function nmiEndings(run, { end, into }) {
  if (end !== "coalesced") return [end];
  const { name } = run.p.instances[into - 1];
  return [`coalesced into ${name}`, `into ${name}`, "coalesced"];
}

/** Draw the NMIs of a lane with a painter. */
export function paintNmis(painter, lane) {
  const { run } = painter;
  const found = nmisUntil(run, lane.limit);
  const next = new Map(); // where the bar after this one begins, by row
  for (const one of found.toReversed()) {
    const [first, end] = [one.spans[0][0], one.spans.at(-1)[1]];
    if ((one.row ?? null) === null) continue; // left out by the kernel that runs in a browser
    if (painter.inside(first, end + 40)) paintNmi(painter, lane, one, next.get(one.row) ?? run.length);
    next.set(one.row, first);
  }
  paintMore(painter, lane, found);
}

function paintNmi(painter, lane, one, next) {
  const bottom = lane.top + 4 + NMI_BAR * (one.row + 1);
  const place = (step) => painter.x(Math.max(painter.from, Math.min(painter.to, step)));
  const [first, end] = [one.spans[0][0], one.spans.at(-1)[1]];
  const shown = nmiPhases(one.spans, painter.col).filter((span) => painter.inside(span[0], span[1]));
  const boxes = [];
  for (const [from, to, phase] of shown) {
    const [x, right, height] = [place(from), place(to), NMI_LEVELS[phase]];
    painter.box(x + 0.5, bottom - height, right - x - 1, height, `${style(NMI_LOOKS[phase])} vl-box`, 2);
    boxes.push(painter.svg.lastChild);
    painter.hatch(x + 0.5, right - 0.5, bottom - height, bottom, NMI_HATCHES[phase], style(NMI_LOOKS[phase]));
  }
  if (end <= lane.limit + 1) for (const box of boxes) s(box, "title", {}, one.said);
  const width = one.name.length * 6.4 + 8;
  const named = shown.length > 0 && place(end) - place(first) >= width;
  if (named) painter.text(place(first) + 5, bottom - nmiLift(shown[0][2]), one.name, "vl-said");
  let x = place(first) + (named ? width : 0);
  for (const [from, to, phase, where] of shown) {
    x = Math.max(x, place(from));
    const words = phase === "pending" ? [`pending in ${where}`, phase, where] : [phase];
    painter.label(x + 5, bottom - nmiLift(phase), place(to) - x - 7, words, `${style(NMI_LOOKS[phase])} vl-ink vl-soft`);
  }
  if (end > painter.to || !NMI_GLYPHS[one.end] || !one.over) return;
  const at = painter.x(end);
  s(painter.svg, "path", { d: NMI_GLYPHS[one.end], transform: `translate(${at} ${bottom})`, class: "vl-arrow" });
  const words = nmiEndings(painter.run, one);
  const all = named ? words : [...words.map((word) => `${one.name} ${word}`), ...words];
  painter.label(at + 15, bottom - 4, painter.x(next) - at - 15, all, "vl-said vl-soft");
}

/** Spans as they are drawn: where there is no room to name each place of a phase, they become one. */
function nmiPhases(spans, col) {
  const whole = [];
  for (const [first, end, phase, place] of spans) {
    const last = whole.at(-1);
    if (last && last[2] === phase) whole.splice(-1, 1, [last[0], end, phase, `${last[3]}, ${place}`]);
    else whole.push([first, end, phase, place]);
  }
  const narrow = (phase) => spans.some((span) => span[2] === phase && (span[1] - span[0]) * col < NMI_NAMED);
  return whole.flatMap((one) => (narrow(one[2]) ? [one] : spans.filter((span) => span[0] >= one[0] && span[1] <= one[1])));
}

/** How far above the foot of a bar its text stands: over a low bar, in a high one. */
function nmiLift(phase) {
  return phase === "arrived" ? 7 : 4;
}

/** Count the NMIs for which there was no row, where they came. */
function paintMore(painter, lane, found) {
  const counts = new Map();
  for (const { row, spans } of found)
    if (row === null) counts.set(spans[0][0], (counts.get(spans[0][0]) ?? 0) + 1);
  const steps = [...counts.keys()];
  steps.forEach((step, i) => {
    if (!painter.inside(step - 12, step + 1)) return;
    const [x, right] = [painter.x(step), painter.x(steps[i + 1] ?? painter.run.length)];
    painter.label(x + 5, lane.top + lane.height - 7, right - x - 7, [`+${counts.get(step)} more`], "vl-said vl-soft");
  });
}
