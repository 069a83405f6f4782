// The presenter's bar: a few large buttons, and the keys of a clicker. What is shown is decided in the kernel.

import { keepKeys } from "./keep.js";
import { h } from "./nodes.js";

const ZOOM = { least: 1, first: 1.35, most: 2.15, step: 0.2 };
const KEYS = { PageDown: "next", PageUp: "back", Enter: "event" };

function render({ model, el }) {
  const button = (what, text, title) => {
    const made = h("button", "vl-present", { type: "button", title }, text);
    made.addEventListener("click", () => model.send({ show: what }));
    return made;
  };
  const full = h("button", "vl-present", { type: "button" }, "Full screen");
  const parts = {
    back: button("back", "◀ Back", "Page Up"),
    next: button("next", "Next step ▶", "Page Down"),
    event: button("event", "Next event", "Enter"),
    all: button("all", "Show all", ""),
  };
  let zoom = ZOOM.first;
  const sizes = [-1, 1].map((way) => {
    const name = way < 0 ? "Smaller" : "Larger";
    const made = h("button", "vl-present", { type: "button", "aria-label": name, title: name }, way < 0 ? "A−" : "A+");
    made.addEventListener("click", () => {
      zoom = Math.min(ZOOM.most, Math.max(ZOOM.least, zoom + way * ZOOM.step));
      stage()?.style.setProperty("--vnmi-zoom", zoom);
    });
    return made;
  });
  const place = h("output", "vl-place", { "aria-live": "polite" });
  el.classList.add("vnmi-present");
  el.append(...Object.values(parts), ...sizes, full, place);

  const show = () => {
    const has = new Set(model.get("offers"));
    const focused = Object.values(parts).find((part) => part === document.activeElement);
    for (const [what, part] of Object.entries(parts)) part.disabled = !has.has(what);
    if (focused?.disabled) Object.values(parts).find((part) => !part.disabled)?.focus();
    parts.next.textContent = `${model.get("next_word")} ▶`;
    parts.event.hidden = parts.all.hidden = !model.get("stepwise");
    place.textContent = model.get("place");
  };
  for (const name of ["offers", "next_word", "stepwise", "place"]) model.on(`change:${name}`, show);
  show();

  const stage = () => el.closest(".vnmi-presenter");
  const onKey = (event) => {
    const what = KEYS[event.key];
    if (!what || event.ctrlKey || event.altKey || event.metaKey) return;
    if (event.key === "Enter" && event.target.closest("button, input, select, textarea, summary")) return;
    event.preventDefault();
    event.stopPropagation();
    if (model.get("offers").includes(what)) model.send({ show: what });
  };
  const onFull = () => {
    full.textContent = document.fullscreenElement === stage() ? "Leave full screen" : "Full screen";
  };
  full.addEventListener("click", () =>
    document.fullscreenElement ? document.exitFullscreen() : stage()?.requestFullscreen(),
  );
  document.addEventListener("fullscreenchange", onFull);
  let heard = null; // the stage is there once the bar stands in it
  const wait = requestAnimationFrame(() => {
    heard = stage();
    heard?.addEventListener("keydown", onKey, true);
    onFull();
  });
  const undo = keepKeys();
  return () => {
    undo();
    cancelAnimationFrame(wait);
    heard?.removeEventListener("keydown", onKey, true);
    document.removeEventListener("fullscreenchange", onFull);
    for (const name of ["offers", "next_word", "stepwise", "place"]) model.off(`change:${name}`, show);
  };
}

export default { render };
