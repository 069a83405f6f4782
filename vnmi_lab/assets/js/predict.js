// The answer to a prediction: one of several options, or the bits of a word. Native controls, so every key works. The
// kernel is told of each change, and again by the button that answers.

import { keepKeys } from "./keep.js";
import { h } from "./nodes.js";
import { say } from "./said.js";

let groups = 0; // each group of radio buttons has a name of its own

/** Text with `names in backquotes` set as code. */
function proseNodes(text) {
  return text.split("`").map((part, i) => (i % 2 ? h("code", "", {}, part) : part));
}

function tell(model, fieldset, said) {
  say(fieldset, said);
  model.send(said);
}

function choices(model, fieldset) {
  const group = `vnmi-choice-${(groups += 1)}`;
  return model.get("options").map(([letter, text]) => {
    const input = h("input", "", { type: "radio", name: group, value: letter });
    input.checked = model.get("value") === letter;
    input.addEventListener("change", () => tell(model, fieldset, { value: letter }));
    return fieldset.appendChild(h("label", "vl-option", {}, input, h("span", "", {}, `${letter}. `, ...proseNodes(text))));
  });
}

/** Whether a word has a bit; words go beyond the 31 bits that shifts can do. */
export function hasBit(word, bit) {
  return Math.floor(word / 2 ** bit) % 2 === 1;
}

/** A word with a bit set or cleared. */
export function withBit(word, bit, on) {
  return hasBit(word, bit) === on ? word : word + (on ? 1 : -1) * 2 ** bit;
}

/** A word as the manuals write it. */
export function hexadecimal(word) {
  return `${word.toString(16).toUpperCase().padStart(8, "0")}h`;
}

function bits(model, fieldset) {
  let word = model.get("word");
  const shown = h("output", "vl-word", { "aria-live": "polite" });
  const write = () => {
    shown.textContent = `${model.get("name")} = ${hexadecimal(word)}`;
  };
  for (const [bit, name] of model.get("bits")) {
    const input = h("input", "", { type: "checkbox", "data-bit": bit });
    input.checked = hasBit(word, bit);
    input.addEventListener("change", () => {
      word = withBit(word, bit, input.checked);
      tell(model, fieldset, { word });
      write();
    });
    const [number, said] = [h("span", "vl-bit-number", {}, `bit ${bit}`), h("code", "", {}, name)];
    fieldset.append(h("label", "vl-option", {}, input, number, " ", said));
  }
  write();
  fieldset.append(shown);
}

function render({ model, el }) {
  const fieldset = h("fieldset", "vl-answer", {}, h("legend", "", {}, model.get("legend")));
  el.classList.add("vnmi-answer");
  el.append(fieldset);
  if (model.get("bits").length) bits(model, fieldset);
  else choices(model, fieldset);
  const disable = () => {
    fieldset.disabled = model.get("disabled");
  };
  model.on("change:disabled", disable);
  disable();
  const undo = keepKeys();
  return () => {
    undo();
    model.off("change:disabled", disable);
  };
}

export default { render };
