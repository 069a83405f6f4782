// Drawings that come as data (see vnmi_lab/timeline/shapes.py), as SVG. A unit of the axis is so many pixels wide.

import { NS, s } from "./nodes.js";

const LETTER = 6.4,
  SMALL = 5.5,
  MARGIN = 4,
  GAP = 7;
const CLOSED = new Set(["fill", "solid", "box", "tip"]);
const HUES = new Set("main nmi other intr host bare guest mask pend bus plain shadow".split(" "));

/** The classes of a shape as the style sheet names them. */
export function classes(words) {
  const said = words.split(" ").filter(Boolean);
  return said.map((word) => (HUES.has(word) ? `vl-s-${word}` : `vl-${word}`)).join(" ");
}

/** The text to write in so many pixels (0: any), and whether it has to be small; "" when none fits. */
export function fitting(texts, room) {
  if (!room) return [texts[0], false];
  const fits = (letter, margin) => (text) => text && text.length * letter + margin <= room;
  const whole = texts.find(fits(LETTER, MARGIN));
  if (whole) return [whole, false];
  const last = texts.slice(-1).find(fits(SMALL, MARGIN / 2));
  return [last ?? "", Boolean(last)];
}

/** The way of a path in pixels. */
export function way([, points, words], unit) {
  const d = points.map(([x, dx, y]) => `${tenth(x * unit + dx)} ${y}`).join("L");
  return `M${d}${words.split(" ").some((word) => CLOSED.has(word)) ? "z" : ""}`;
}

/** The lines of a hatch in pixels, "" where there is no room for one. */
export function lines([, first, end, top, bottom, lean], unit) {
  let d = "";
  for (let x = first * unit + 3; x < end * unit - lean; x += GAP) d += `M${tenth(x)} ${bottom}l${lean} ${top - bottom}`;
  return d;
}

/** An SVG of shapes, `units` wide and `height` px high. */
export function draw(shapes, unit, units, height) {
  const svg = document.createElementNS(NS, "svg");
  for (const [name, value] of Object.entries({
    class: "vl-svg",
    "aria-hidden": "true",
    width: units * unit,
    height,
    viewBox: `0 0 ${Math.max(1, units * unit)} ${height}`,
  }))
    svg.setAttribute(name, value);
  for (const shape of shapes) DRAW[shape[0]]?.(svg, shape, unit);
  return svg;
}

const DRAW = {
  box(svg, [, first, end, inset, y, height, words], unit) {
    const width = Math.max(1, tenth((end - first) * unit - 2 * inset));
    s(svg, "rect", { x: tenth(first * unit + inset), y, width, height, rx: 3, class: classes(words) });
  },
  path(svg, shape, unit) {
    s(svg, "path", { d: way(shape, unit), class: classes(shape[2]) });
  },
  hatch(svg, shape, unit) {
    const d = lines(shape, unit);
    if (d) s(svg, "path", { d, class: classes(shape[6]) });
  },
  text(svg, [, x, dx, y, room, texts, words, anchor], unit) {
    const [said, small] = fitting(texts, room * unit);
    if (!said) return;
    const at = { x: tenth(x * unit + dx), y, "text-anchor": anchor };
    s(svg, "text", { ...at, class: `${classes(words)}${small ? " vl-small" : ""}` }, said);
  },
};

function tenth(value) {
  return Math.round(value * 10) / 10;
}
