// Keys for whoever has the focus in a panel of ours.

/**
 * Keep JupyterLab's command mode from taking them: it would move to another cell on an arrow, and cut it on a letter.
 * It looks for the mark on the very node that has the focus. Returns what undoes it.
 */
export function keepKeys() {
  const keep = ({ target }) => {
    if (target.closest?.(".vnmi-bench, .vnmi-predict, .vnmi-progress, .vnmi-presenter")) target.setAttribute("data-lm-suppress-shortcuts", "true");
  };
  document.addEventListener("focusin", keep);
  return () => document.removeEventListener("focusin", keep);
}
