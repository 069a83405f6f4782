// anywidget's entry for a timeline. No imports from elsewhere, no network.

import { h } from "./nodes.js";
import { payloadOf } from "./run.js";
import { Player } from "./player.js";

/** anywidget's entry: draws `model`'s payload in `el`, again whenever another one comes. */
function render({ model, el }) {
  const root = el.appendChild(document.createElement("div"));
  let player = null;
  const open = () => {
    const before = player?.keep();
    if (player) player.close();
    player = null;
    const payload = payloadOf(model);
    if (!payload) return; // it is on its way
    const held = focused(root);
    try {
      player = new Player(model, payload, root, before);
      if (held) root.querySelector(held)?.focus({ preventScroll: true });
    } catch (error) {
      root.replaceChildren(h("p", "", { role: "alert" }, `The timeline cannot be drawn: ${error.message}`));
      console.error(error);
    }
  };
  for (const name of ["change:sent", "change:payload"]) model.on(name, open);
  open();
  return () => {
    for (const name of ["change:sent", "change:payload"]) model.off(name, open);
    if (player) player.close();
    player = null;
    root.remove(); // JupyterLab keeps what a cell showed before it ran again
  };
}

/** A selector of what has the focus in `root`, so that it finds its place in what is drawn next; null if nothing has. */
function focused(root) {
  const node = document.activeElement;
  if (!root.contains(node) || node === root) return null;
  const label = node.getAttribute("aria-label");
  return label && node.tagName !== "DIV" ? `${node.tagName}[aria-label="${CSS.escape(label)}"]` : ".vl-scroll";
}

export default { render };
