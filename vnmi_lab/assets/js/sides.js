// A payload of policies side by side, read. Knows nothing of the page.

const SIDE_VERSION = 1;

/** Which step each policy is at in a column, and where a difference begins. */
export class Sides {
  constructor(payload) {
    if (!payload || payload.version !== SIDE_VERSION)
      throw new Error(`this view reads version ${SIDE_VERSION}, not ${payload ? payload.version : "nothing"}`);
    this.p = payload;
    this.last = Math.max(0, payload.columns - 1);
    this.diverged = payload.divergences.length ? Math.min(...payload.divergences.map(([column]) => column)) : null;
  }
  /** The last step of a run at or before a column, -1 before its first; and whether it stands in that very column. */
  step(run, column) {
    const { where } = this.p.runs[run];
    let low = 0,
      high = where.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (where[middle] <= column) low = middle + 1;
      else high = middle;
    }
    return [low - 1, low > 0 && where[low - 1] === column];
  }
  /** What a policy does in a column: its name, whether it does anything, at which step it is, and the words for it. */
  said(run, column) {
    const own = this.p.runs[run];
    const [step, here] = this.step(run, column);
    const over = step === own.steps - 1 && !here;
    const words = (table) => (step < 0 ? "" : own.words[table[step]]);
    return { name: own.name, here, step, steps: own.steps, over, text: words(own.text), sentence: words(own.sentence) };
  }
  /** One sentence for a column, every policy in it. */
  sentence(column) {
    const parts = this.p.runs.map((own, run) => {
      const said = this.said(run, column);
      return `${own.name}: ${said.here ? said.text : said.over ? "at its end" : "nothing to do"}`;
    });
    return `Column ${column}. ${parts.join("; ")}.`;
  }
  /** The column before or after one that is worth stopping at; the first or last when there is none. */
  stop(column, way) {
    const { stops } = this.p;
    const found = way > 0 ? stops.find((other) => other > column) : stops.findLast((other) => other < column);
    return found ?? (way > 0 ? this.last : 0);
  }
  /** For each count whether the policies differ in it. */
  differing() {
    const [first, ...others] = this.p.counts.rows;
    return first.map((value, i) => i > 0 && others.some((row) => row[i] !== value));
  }
}
