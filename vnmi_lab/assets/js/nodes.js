// Nodes of the page. Every text is untrusted: it goes in through textContent and attributes only, never as markup.

export const NS = "http://www.w3.org/2000/svg";
const ICONS = {
  first: "M4 3v10M13 3.5 6.5 8 13 12.5z",
  back: "M11 3.5 4.5 8 11 12.5z",
  play: "M5 3l8 5-8 5z",
  pause: "M5 3.5h1.5v9H5zM9.5 3.5H11v9H9.5z",
  step: "M5 3.5 11.5 8 5 12.5z",
  last: "M12 3v10M3 3.5 9.5 8 3 12.5z",
  prev: "M7 4 3 8l4 4M11.500 5.500 14 8l-2.500 2.500L9 8z",
  next: "M9 4l4 4-4 4M4.500 5.500 7 8l-2.500 2.500L2 8z",
  out: "M3.5 8h9",
  in: "M3.5 8h9M8 3.5v9",
  fit: "M5.5 4 2 8l3.5 4M10.5 4 14 8l-3.5 4M2.5 8h11",
  lanes: "M2.5 4h11M2.5 8h11M2.5 12h11",
  help: "M6 6a2 2 0 1 1 2.8 1.9C8.2 8.200 8 8.600 8 9.300M8 12h.01",
  point: "M3 2.500 10 6 3 9.500z",
};
const OPEN = new Set(["prev", "next", "out", "in", "fit", "lanes", "help"]); // icons drawn as lines

/** An HTML element with a class, attributes and children; strings become text nodes. */
export function h(tag, classes, attributes = {}, ...children) {
  const node = document.createElement(tag);
  if (classes) node.className = classes;
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

/** An SVG element inside `parent`; `text` becomes its text. */
export function s(parent, tag, attributes, text) {
  const node = document.createElementNS(NS, tag);
  for (const name in attributes) node.setAttribute(name, attributes[name]);
  if (text !== undefined) node.textContent = text;
  parent.appendChild(node);
  return node;
}

export function icon(name, size = 16) {
  const svg = document.createElementNS(NS, "svg");
  for (const [key, value] of [
    ["viewBox", `0 0 ${size} ${size}`],
    ["aria-hidden", "true"],
    ["focusable", "false"],
  ])
    svg.setAttribute(key, value);
  s(svg, "path", { d: ICONS[name], ...(OPEN.has(name) ? { fill: "none" } : {}) });
  return svg;
}

export function button(name, label, action, classes = "") {
  const node = h("button", `vl-button ${classes}`, { type: "button", "aria-label": label, title: label }, icon(name));
  node.addEventListener("click", action);
  return node;
}

/** Light or dark: JupyterLab says, then VS Code, then the system. */
export function theme() {
  const body = document.body;
  const said = body.dataset.jpThemeLight ?? body.getAttribute("data-jp-theme-light");
  if (said) return said === "false" ? "dark" : "light";
  if (body.dataset.vscodeThemeKind) return /dark|high-contrast$/.test(body.dataset.vscodeThemeKind) ? "dark" : "light";
  return matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
}
