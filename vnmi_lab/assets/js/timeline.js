// anywidget's entry for a timeline. No imports from elsewhere, no network.

import { h } from "./nodes.js";
import { Player } from "./player.js";

/** anywidget's entry: draws `model`'s payload in `el`, again whenever another one comes. */
function render({ model, el }) {
  const root = el.appendChild(document.createElement("div"));
  let player = null;
  const open = () => {
    if (player) player.close();
    player = null;
    try {
      player = new Player(model, root);
    } catch (error) {
      root.replaceChildren(h("p", "", { role: "alert" }, `The timeline cannot be drawn: ${error.message}`));
      console.error(error);
    }
  };
  model.on("change:payload", open);
  open();
  return () => {
    model.off("change:payload", open);
    if (player) player.close();
  };
}

export default { render };
