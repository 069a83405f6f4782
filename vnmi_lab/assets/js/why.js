// Why is it blocked? What KVM and the processor answer after a step, what decides, and where that ends.

import { at } from "./run.js";
import { h, set } from "./nodes.js";

const VERDICTS = new Map([
  [1, "lets an NMI in"],
  [0, "blocks NMIs"],
  [-16, "cannot take one in this entry (-EBUSY)"],
  [null, "is not asked now"],
]);

/** What each party of a payload's `blocked` says after a step, ready to be shown; "" and null where there is nothing. */
export function answers(blocked, step, limit = Infinity) {
  const index = at(blocked.at, step);
  const said = index === null ? [] : blocked.answers[index];
  // The kernel that runs in a browser leaves out what is None in Python.
  return said.map(({ who, verdict = null, waits, decides = null, held, note }) => {
    const [name, sentence, ends, source] = decides === null ? ["", "", "", ""] : blocked.conditions[decides];
    const end = at(blocked.ends[who], step);
    return {
      who,
      verdict: VERDICTS.get(verdict) ?? `answers ${verdict}`,
      open: verdict === 1,
      state: verdict === 1 ? "open" : waits ? "blocked" : verdict === null ? "away" : "closed",
      waits,
      name,
      sentence,
      ends,
      source,
      note: note ?? "",
      end: end !== null && end <= limit ? end : null,
      held: held.map(([place, holds]) => [blocked.conditions[place][0], Boolean(holds), place === decides]),
    };
  });
}

/** The answer whose end is worth a jump: that of a party with an NMI waiting, else of the first that blocks. */
export function pressing(said) {
  return said.find((one) => one.waits && one.end !== null) ?? said.find((one) => one.end !== null) ?? null;
}

/** One row for each party: what it says in a line, its conditions in another, and a way to where the block ends. */
export class WhyPanel {
  constructor(run, seek, limit) {
    Object.assign(this, { blocked: run.p.blocked ?? null, seek, limit });
    this.el = h("section", "vl-panel vl-blocked", { "aria-label": "Why is it blocked?" });
    this.el.append(h("h3", "vl-heading", {}, "Why is it blocked?"));
    this.el.hidden = !this.blocked;
    this.rows = new Map();
    for (const who of Object.keys(this.blocked ? this.blocked.ends : {})) this.rows.set(who, this.row(who));
  }
  row(who) {
    const line = h("p", "vl-answer"),
      list = h("ul", "vl-conditions", { "aria-label": `${who}: conditions` });
    const jump = h("button", "vl-button vl-to", { type: "button" });
    const row = { line, list, jump, end: null, el: h("div", "vl-party", {}, line, jump, list) };
    jump.addEventListener("click", () => row.end !== null && this.seek(row.end));
    this.el.append(row.el);
    return row;
  }
  /** Where the most pressing block at the step shown ends, or null. */
  end() {
    return (this.said && pressing(this.said)?.end) ?? null;
  }
  show(step) {
    if (!this.blocked) return;
    this.said = answers(this.blocked, step, this.limit());
    const waiting = this.said.some((one) => one.waits && !one.open);
    set(this.el, "data-blocked", waiting);
    for (const [who, row] of this.rows) this.write(row, who, this.said.find((one) => one.who === who));
  }
  /** Write what a party says, unless it says the same as at the step before. */
  write(row, who, one) {
    const told = JSON.stringify(one ?? null);
    if (row.told === told) return;
    row.told = told;
    row.el.dataset.state = one ? one.state : "away";
    if (one) this.fill(row, one);
    else row.line.replaceChildren(h("b", "", {}, who), ": not asked now. The guest is not running.");
    row.end = one ? one.end : null;
    row.list.hidden = !one || one.open || one.held.length < 2;
    row.jump.setAttribute("aria-disabled", String(row.end === null));
    row.jump.textContent = row.end === null ? "no end here" : `ends at step ${row.end}`;
    row.jump.style.visibility = one && !one.open ? "" : "hidden";
    const goal = row.end === null ? "no end in this run" : `go to step ${row.end}, where it ends`;
    row.jump.setAttribute("aria-label", `${who}: ${goal}`);
  }
  fill(row, one) {
    const waits = one.waits ? `${one.waits} ${one.waits === 1 ? "NMI waits" : "NMIs wait"}. ` : "";
    const why = one.open ? "" : `${one.sentence} Until ${one.ends}. ${one.note}`;
    row.line.replaceChildren(h("b", "", {}, one.who), ` ${one.verdict}. `, h("strong", "", {}, waits), why);
    row.line.title = one.source;
    row.list.replaceChildren(
      ...one.held.map(([name, holds, decides]) =>
        h(
          "li",
          "",
          { "data-holds": String(holds), "data-decides": String(decides) },
          `${name} ${holds ? "yes" : "no"}${decides ? ", decides" : ""}`,
        ),
      ),
    );
  }
}
