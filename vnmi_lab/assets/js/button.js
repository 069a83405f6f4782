// A button whose click brings along what was said in its panel, or says something itself.

import { keepKeys } from "./keep.js";
import { h } from "./nodes.js";
import { say, take } from "./said.js";

const CLASSES = "jupyter-widgets jupyter-button widget-button"; // those of ipywidgets, so that it looks like theirs

function render({ model, el }) {
  const button = el.appendChild(h("button", CLASSES, { type: "button" }));
  const show = () => {
    button.textContent = model.get("description");
    button.title = model.get("tooltip");
    button.disabled = model.get("disabled");
    button.classList.toggle("mod-primary", model.get("primary"));
  };
  button.addEventListener("click", () => {
    const said = { ...take(el), ...model.get("says") };
    if (Object.keys(model.get("says")).length) say(el, said);
    model.send({ click: said });
  });
  const names = ["description", "tooltip", "disabled", "primary"];
  for (const name of names) model.on(`change:${name}`, show);
  show();
  const undo = keepKeys();
  return () => {
    undo();
    for (const name of names) model.off(`change:${name}`, show);
  };
}

export default { render };
