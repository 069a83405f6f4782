// Saving a run: the kernel writes it in the format asked for; a page of its own needs no kernel.

import { offerFile } from "./file.js";
import { h } from "./nodes.js";
import { Menu } from "./menu.js";
import { payloadOf } from "./run.js";

const PATIENCE = 4000; // ms until a kernel that does not answer is spoken of
const OFFLINE = "html"; // the format that the page makes itself
const ENTRY = "export default"; // what follows it in the player's module is for anywidget

/** A page that plays a run by itself: `skeleton` with its places filled, as vnmi_lab/export/page.py does. */
export function filledPage(skeleton, payload, script, style) {
  const escapes = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#x27;" };
  const words = {
    title: payload.title.replace(/[&<>"']/g, (letter) => escapes[letter]),
    payload: JSON.stringify({ ...payload, visible_until: null }).replaceAll("<", "\\u003c"),
    script: script.slice(0, script.lastIndexOf(ENTRY)),
    style,
  };
  return skeleton
    .split("@@")
    .map((part, place) => (place % 2 ? words[part] : part))
    .join("");
}

/** The menu "Save as": hidden where the model offers no formats, and while a part of the run is hidden. */
export class SaveMenu extends Menu {
  constructor(model, tell) {
    const list = h("div", "vl-savelist");
    const status = h("p", "vl-savestatus", { role: "status" });
    super("save", "Save as", "Save this run as a file", list, status);
    Object.assign(this, { model, tell, list, status });
    this.heard = (message) => this.receive(message);
    this.model.on("msg:custom", this.heard);
  }

  /** What is offered now; nothing while `hidden`. */
  show(hidden) {
    const formats = this.model.get("formats") || [];
    this.el.hidden = hidden || !formats.length;
    this.list.replaceChildren(
      ...formats.map(([key, name, file, sentence]) => {
        const words = [h("strong", "", {}, name), h("span", "", {}, sentence)];
        const entry = h("button", "vl-saveentry", { type: "button", "data-format": key, title: file }, ...words);
        entry.addEventListener("click", () => this.save(key, name, file));
        return entry;
      }),
    );
  }

  save(key, name, file) {
    clearTimeout(this.later);
    this.asked = null;
    if (key === OFFLINE) {
      const [skeleton, script, style] = ["page", "_esm", "_css"].map((part) => this.model.get(part));
      this.finish({ name: file, mime: "text/html", text: filledPage(skeleton, payloadOf(this.model), script, style) });
      return;
    }
    this.asked = `${Date.now()}-${Math.random()}`;
    this.status.textContent = `The kernel writes ${name} …`;
    const silent = () => {
      this.status.textContent =
        "The kernel does not answer: it is busy, or gone. If it is busy, the file comes when it is done. " +
        "The web page can be saved without it.";
    };
    this.later = setTimeout(silent, PATIENCE);
    try {
      this.model.send({ save: key, id: this.asked });
    } catch {
      clearTimeout(this.later);
      silent();
    }
  }

  receive(message) {
    if (!this.asked || message.saved !== this.asked) return;
    clearTimeout(this.later);
    this.asked = null;
    if (message.error) this.status.textContent = message.error;
    else this.finish(message);
  }

  finish(file) {
    offerFile(file);
    this.status.textContent = "";
    if (!this.panel.hidden) {
      this.toggle(false);
      this.button.focus();
    }
    this.tell(`Saved: ${file.name}`);
  }

  close() {
    clearTimeout(this.later);
    this.model.off("msg:custom", this.heard);
  }
}
