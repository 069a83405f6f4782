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
  exitBack: "M3 13V3M3 3 1 5.500M3 3l2 2.500M13 4 8 8l5 4z",
  exit: "M13 13V3M13 3l-2 2.500M13 3l2 2.500M3 4l5 4-5 4z",
  until: "M2.5 8h7M7 5l3 3-3 3M13 3v10",
  loop: "M4 5.500h7.500a2 2 0 0 1 2 2v.5M12 10.500H4.500a2 2 0 0 1-2-2V8M6 3 3.500 5.500 6 8M10 8l2.500 2.500L10 13",
  micro: "M2.500 4v8M13.500 4v8M6 6v4M10 6v4M2.500 8h11",
  focus: "M2.500 3v10M13.500 3v10M5 8h6M7 5.500 4.500 8 7 10.500M9 5.500 11.500 8 9 10.500",
  left: "M10 3.500 5.500 8l4.500 4.500",
  right: "M6 3.500 10.500 8 6 12.500",
  pin: "M5.500 2.500h5M6.500 2.500v4L4.500 9h7l-2-2.500v-4M8 9v4.500",
  save: "M8 2.500v7.500M4.500 7 8 10.500 11.500 7M2.500 11v2.500h11V11",
  choose: "M2.500 4h3M8 4h5.500M2.500 8h8M12.500 8h1M2.500 12h2M7 12h6.500",
};
const FILLED = new Set(["first", "back", "play", "pause", "step", "last", "point"]); // the others are drawn as lines

/** An HTML element with a class, attributes and children; strings become text nodes. */
export function h(tag, classes, attributes = {}, ...children) {
  const node = document.createElement(tag);
  if (classes) node.className = classes;
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

/** Write a text, unless it stands there: the same text written again would be laid out again. */
export function put(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** Set an attribute, unless it has that value: the same set again would be styled again. */
export function set(node, name, value) {
  if (node.getAttribute(name) !== String(value)) node.setAttribute(name, String(value));
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
  s(svg, "path", { d: ICONS[name], ...(FILLED.has(name) ? {} : { fill: "none" }) });
  return svg;
}

export function button(name, label, action, classes = "") {
  const node = h("button", `vl-button ${classes}`, { type: "button", "aria-label": label, title: label }, icon(name));
  node.addEventListener("click", action);
  return node;
}

/** A button that says its name in words beside its icon; `label` is its full name, with its key. */
export function named(name, text, label, action) {
  const node = button(name, label, action, "vl-named");
  node.append(h("span", "", {}, text));
  return node;
}

/** Whether text goes into a node, so that letters belong to it. */
export function takesText(node) {
  return node.matches("input:not([type=range], [type=checkbox], [type=radio]), select, textarea");
}

/** Do what a key is for, as `actionOf(event)` has it: not with Ctrl, Alt or Meta, nor where a text or a button takes it. */
export function press(event, actionOf) {
  const { target, key } = event;
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (key !== "Tab") event.stopPropagation(); // it is never taken; the others stay in the view that has the focus
  const pressing = target.closest("button, summary") && (key === " " || key === "Enter");
  const action = !takesText(target) && !pressing && !(target.type === "checkbox" && key === " ") && actionOf(event);
  if (!action) return;
  event.preventDefault();
  action();
}

/** A sheet of keys, [key, what it does], hidden until it is asked for. */
export function keyList(keys, heading, ...more) {
  const rows = keys.flatMap(([key, what]) => [h("dt", "", {}, key), h("dd", "", {}, what)]);
  const list = h("dl", "vl-sheet", {}, ...rows);
  const attributes = { role: "group", "aria-label": "Keys", hidden: "" };
  return h("div", "vl-keys", attributes, h("h3", "vl-heading", {}, heading), list, ...more);
}

/** "light" or "dark", with "-contrast" when much of it is asked for: JupyterLab says, then VS Code, then the system. */
export function theme() {
  const { jpThemeLight, jpThemeName = "", vscodeThemeKind = "" } = document.body.dataset;
  const asked = (query) => matchMedia(query).matches;
  const dark = jpThemeLight
    ? jpThemeLight === "false"
    : vscodeThemeKind
      ? /dark|high-contrast$/.test(vscodeThemeKind)
      : asked("(prefers-color-scheme: dark)");
  const high = /high[- ]contrast/i.test(`${jpThemeName} ${vscodeThemeKind}`) || asked("(prefers-contrast: more)");
  return `${dark ? "dark" : "light"}${high ? "-contrast" : ""}`;
}

/** Call `paint(theme)` now and whenever the page or the system changes its theme; gives a function that ends it. */
export function watchTheme(paint) {
  const again = () => paint(theme());
  const queries = ["(prefers-color-scheme: dark)", "(prefers-contrast: more)"].map((query) => matchMedia(query));
  const body = new MutationObserver(again);
  const attributeFilter = ["data-jp-theme-light", "data-jp-theme-name", "data-vscode-theme-kind"];
  body.observe(document.body, { attributes: true, attributeFilter });
  for (const query of queries) query.addEventListener("change", again);
  again();
  return () => {
    body.disconnect();
    for (const query of queries) query.removeEventListener("change", again);
  };
}
