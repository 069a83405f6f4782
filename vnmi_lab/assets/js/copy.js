// A text that can be copied. Where the clipboard is blocked it is selected, so that a key copies it.

import { keepKeys } from "./keep.js";
import { h } from "./nodes.js";

function render({ model, el }) {
  const field = h("input", "vl-copied", { type: "text", readonly: "", spellcheck: "false" });
  const label = h("label", "vl-copy-label", {}, h("span"), field);
  const copy = h("button", "vl-copy", { type: "button" }, "Copy");
  const status = h("span", "vl-copy-status", { role: "status" });
  el.classList.add("vnmi-copy");
  el.append(label, copy, status);
  const show = () => {
    label.firstChild.textContent = model.get("name");
    field.value = model.get("text");
    copy.setAttribute("aria-label", `Copy: ${model.get("name")}`);
    status.textContent = "";
  };
  copy.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(field.value);
      status.textContent = "Copied.";
    } catch {
      field.focus();
      field.select();
      status.textContent = "The clipboard is blocked here: the text is selected, copy it with a key.";
    }
  });
  model.on("change:text", show);
  show();
  const undo = keepKeys();
  return () => {
    undo();
    model.off("change:text", show);
  };
}

export default { render };
