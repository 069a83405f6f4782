// What a learner says in a panel, kept on its page until the button that answers sends it along: JupyterLab hands the
// messages of a page to two threads of the kernel, and one about a choice may be read after the click that follows it.

const panelOf = (node) => node.closest(".vnmi-predict");

/** Keep what is said now in the panel around `node`: {value}, {word} or {placed}. */
export function say(node, said) {
  const panel = panelOf(node);
  if (panel) panel.dataset.saying = JSON.stringify(said);
}

/** Take what was said in the panel around `node`; an empty record if nothing was. */
export function take(node) {
  const panel = panelOf(node);
  const said = JSON.parse(panel?.dataset.saying ?? "{}");
  delete panel?.dataset.saying;
  return said;
}
