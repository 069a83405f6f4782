// Progress as a file: downloaded from the page, so that it is to be had when the kernel is gone, and uploaded again.

import { offerFile } from "./file.js";
import { keepKeys } from "./keep.js";
import { h } from "./nodes.js";

const LARGEST = 10_000_000; // bytes; the kernel refuses longer ones too

function render({ model, el }) {
  const download = h("button", "vl-download", { type: "button" }, "Download my progress");
  const input = h("input", "", { type: "file", accept: ".json,application/json" });
  const upload = h("label", "vl-upload", {}, h("span", "", {}, "Upload it again: "), input);
  const status = h("div", "vl-progress-status", { role: "status" });
  el.classList.add("vnmi-progress");
  el.append(download, upload, status);
  const say = () => {
    status.textContent = model.get("said");
  };
  download.addEventListener("click", () => {
    const name = model.get("file");
    offerFile({ name, mime: "application/json", text: model.get("text") });
    status.textContent = `Saved by the browser as ${name}.`;
  });
  input.addEventListener("change", async () => {
    const [file] = input.files;
    input.value = ""; // so that the same file can be chosen again
    if (!file) return;
    if (file.size > LARGEST) status.textContent = `${file.name} is too large to be progress of this course.`;
    else model.send({ upload: await file.text(), name: file.name });
  });
  model.on("change:said", say);
  say();
  const undo = keepKeys();
  return () => {
    undo();
    model.off("change:said", say);
  };
}

export default { render };
