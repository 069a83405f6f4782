// The lanes of a run: what stands where, and their names.

import { nmiHeight } from "./instances.js";
import { h, put } from "./nodes.js";

const RULER = 28; // px, height of the step numbers
export const CELL = 24; // px, an instruction
export const STRIP = 14; // px, the name of a handler above its instructions
const ROW = CELL + STRIP + 4; // px, from one handler to the one inside it
export const WAVE = 34; // px, one digital wave
export const CALL = 13; // px, the name of a KVM function

/** The lanes of a run, top to bottom, each with its place: {id, top, height, ...}. */
export function layout(run, view, limit) {
  const depth = run.depth(limit);
  const lanes = [];
  const add = (owner, id, height, more = {}) => {
    if (view.draws(id, Boolean(more.wave?.quiet))) lanes.push({ owner, id, height, ...more });
  };
  const waves = (owner) => {
    for (const wave of run.p.waves) if (wave.group === owner) add(owner, wave.key, WAVE, { wave });
  };
  const names = run.p.calls.lane;
  const bare = run.p.worlds.length === 1 && run.p.worlds[0][2] === "bare";
  const nmis = nmiHeight(run, limit);
  if (run.p.marks.length) add("outside", "outside", 40, { scripted: !run.kvm && run.p.marks.every(([, kind]) => kind === "host") });
  if (names.length) add("kvm", "calls", Math.max(40, 14 + CALL * (1 + Math.max(...names.map(([, row]) => row)))));
  if (run.p.lint?.some(([step]) => step <= limit)) add("kvm", "lint", 30);
  waves("kvm");
  waves("vmcb");
  add("world", "world", bare ? 36 : 84, { bare });
  add("guest", "code", 16 + CELL + depth * ROW + (depth ? STRIP : 0), { depth });
  waves("guest");
  if (nmis) add("nmis", "nmis", nmis, { limit });
  lanes.sort((a, b) => view.pinned.has(b.id) - view.pinned.has(a.id)); // pinned ones on top, else in their order
  let top = RULER;
  for (const lane of lanes) {
    lane.top = top;
    top += lane.height;
  }
  return { lanes, height: top + 8, owners: owners(run, lanes), of: Object.fromEntries(lanes.map((lane) => [lane.id, lane])) };
}

/** Lanes that stand together and have one owner, as [name, top, height]. */
function owners(run, lanes) {
  const names = new Map(run.p.groups);
  const found = [];
  lanes.forEach(({ owner, top, height }, i) => {
    if (i && lanes[i - 1].owner === owner) found.at(-1)[2] += height;
    else found.push([names.get(owner) ?? owner, top, height]);
  });
  return found;
}

/** Every lane a run has, as [id, quiet]; quiet ones are drawn only when asked for. */
export function laneIds(run) {
  const every = { draws: () => true, pinned: new Set() };
  return layout(run, every, run.length - 1).lanes.map(({ id, wave }) => [id, Boolean(wave?.quiet)]);
}

/** Top of a row of the code lane; row 0 is main, deeper handlers stand above it. */
export function rowTop(lane, row) {
  const bottom = lane.top + lane.height - 8 - CELL;
  return bottom - row * ROW;
}

const ROW_NAMES = ["main", "handler", "handler in handler"];

/** Names of the lanes, and the value each wave has at the cursor. */
export class Gutter {
  constructor(run) {
    this.run = run;
    this.el = h("div", "vl-gutter");
  }
  build(plan) {
    this.el.replaceChildren();
    this.values = [];
    const name = (top, text, code) => {
      const label = h("div", "vl-name", {}, code ? h("code", "", {}, text) : h("span", "", {}, text));
      label.style.top = `${top}px`;
      return this.el.appendChild(label);
    };
    const detail = (top, text) => {
      const label = h("div", "vl-detail", { title: text }, text);
      label.style.top = `${top}px`;
      this.el.appendChild(label);
    };
    name(7, "step");
    for (const [owner, top, height] of plan.owners) {
      const room = owner.length * 5.4 + 2 <= height;
      const label = h("div", "vl-owner", { title: owner }, room ? h("span", "", {}, owner) : "");
      label.style.top = `${top}px`;
      label.style.height = `${height}px`;
      this.el.appendChild(label);
    }
    for (const lane of plan.lanes) {
      if (lane.id === "outside") name(lane.top + 14, lane.scripted ? "script" : "stimuli");
      else if (lane.id === "calls") {
        name(lane.top + 8, "KVM functions");
        detail(lane.top + 24, "that changed something");
      }
      else if (lane.id === "lint") name(lane.top + 8, "broken rules");
      else if (lane.id === "world" && lane.bare) name(lane.top + 9, "runs on");
      else if (lane.id === "world") {
        name(lane.top + 9, "host");
        name(lane.top + 61, "guest");
      } else if (lane.id === "code") {
        for (let row = 0; row <= lane.depth; row++)
          name(rowTop(lane, row) + 4, ROW_NAMES[row] || `${row} handlers deep`);
      } else if (lane.id === "nmis") {
        name(lane.top + 8, "each NMI");
        detail(lane.top + 24, "arrived, pending, served");
      } else {
        const label = name(lane.top + 4, lane.wave.key, true);
        label.classList.toggle("vl-long", lane.wave.key.length > 20);
        detail(lane.top + 18, lane.wave.detail);
        this.values.push([lane.wave.key, label.appendChild(h("span", "vl-now", { "data-lane": lane.wave.key }))]);
      }
    }
  }
  show(step) {
    for (const [key, node] of this.values) put(node, this.run.written(key, this.run.state(key, step)));
  }
}
