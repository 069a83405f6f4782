// The keys: what each does, and the sheet that says so. None is taken from the browser or from JupyterLab, since the
// player hears them only while it has the focus; Tab and whatever is pressed with Ctrl, Alt or Meta are never taken.

import { EVENT } from "./bar.js";
import { h, keyList } from "./nodes.js";

const KEYS = [
  ["Space", "play or pause"],
  ["← →", "one step back, one step on"],
  ["Shift + ← →", "ten steps"],
  [", .", "previous, next event"],
  ["E, Shift + E", "next, previous #VMEXIT"],
  ["Home End", "first, last step"],
  ["U", "run until …, on or back"],
  ["R, Shift + R", "run until the same again, on or back"],
  ["O", "play in a loop, from A to B when both are set"],
  ["A B", "set a marker here, or remove it"],
  ["Shift + A, B", "go to a marker"],
  ["F", "zoom to what lies between the markers"],
  ["W", "to where what blocks an NMI ends"],
  ["M", "look inside steps: ← → go through sub-steps"],
  ["/", "search; Enter goes to the next hit"],
  ["N, Shift + N", "next, previous hit"],
  ["+ − 0", "zoom in, zoom out, fit to the width"],
  ["J K", "look to the left, to the right (or drag with Shift)"],
  ["L, Shift + L", "all lanes; choose lanes"],
  ["?", "this sheet"],
];

/** The sheet of keys; hidden until it is asked for. */
export function keySheet() {
  return keyList(KEYS, "Keys, when the timeline has the focus", h("p", "vl-hint", {}, EVENT));
}

/** What a key does to a player, undefined when it is none of ours. */
export function keyAction(player, { key, shiftKey }) {
  const to = (target) => () => player.travel(target());
  const way = shiftKey ? -1 : 1;
  const mark = (which) => () => (shiftKey ? player.toMark(which) : player.setMark(which));
  const actions = {
    " ": () => player.toggle(),
    ArrowRight: () => player.walk(shiftKey ? 10 : 1),
    ArrowLeft: () => player.walk(shiftKey ? -10 : -1),
    Home: to(() => 0),
    End: to(() => player.limit()),
    ",": to(() => player.event(-1)),
    ".": to(() => player.event(1)),
    e: () => player.toExit(way),
    u: () => player.tools.until.toggle(true),
    r: () => player.tools.until.again(way),
    o: () => player.toggleLoop(),
    a: mark("a"),
    b: mark("b"),
    f: () => player.focusMarks(),
    m: () => player.toggleMicro(),
    w: to(() => player.why.end() ?? player.cursor),
    "/": () => player.tools.search.input.focus(),
    n: () => player.tools.search.go(way),
    "+": () => player.zoom(1.4),
    "=": () => player.zoom(1.4),
    "-": () => player.zoom(1 / 1.4),
    0: () => player.zoom(0),
    j: () => player.chart.pan(-0.5),
    k: () => player.chart.pan(0.5),
    l: () => (shiftKey ? player.laneMenu.toggle(true) : player.toggleLanes()),
    "?": () => player.toggleKeys(),
    Escape: player.keys.hidden ? undefined : () => player.toggleKeys(false),
  };
  const name = key.length === 1 ? key.toLowerCase() : key;
  return Object.hasOwn(actions, name) ? actions[name] : undefined;
}
