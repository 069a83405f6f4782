// A file for the learner to keep.

import { h } from "./nodes.js";

/** Let the browser save a text as a file. */
export function offerFile({ name, mime, text }) {
  const link = h("a", "", { href: URL.createObjectURL(new Blob([text], { type: mime })), download: name });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
}
