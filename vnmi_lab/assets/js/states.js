// A payload of the judge's states, read. Knows nothing of the page.

const STATES_VERSION = 1;

/** The graph, and what its cursor walks: the counterexample, or where no law broke the nodes, first reached first. */
export class States {
  constructor(payload) {
    if (!payload || payload.version !== STATES_VERSION)
      throw new Error(`this view reads version ${STATES_VERSION}, not ${payload ? payload.version : "nothing"}`);
    this.p = payload;
    this.walks = payload.walk.length > 0;
    this.last = Math.max(0, (this.walks ? payload.walk.length : payload.nodes.length) - 1);
  }
  /** The node at a place of the walk. */
  node(cursor) {
    return this.walks ? this.p.walk[cursor][0] : cursor;
  }
  /** The place of the walk at which a node first comes, null if it does not. */
  place(node) {
    if (!this.walks) return node;
    const found = this.p.walk.findIndex(([other]) => other === node);
    return found < 0 ? null : found;
  }
  /** A node in words. */
  said(node) {
    const { name, lines } = this.p.nodes[node];
    return `${name}: ${lines.join(", ")}`;
  }
  /** What a place of the walk shows: a heading, a label and a sentence. */
  step(cursor) {
    if (this.walks) {
      const [, text, sentence] = this.p.walk[cursor];
      return { heading: `Step ${cursor} of the counterexample`, text, sentence };
    }
    const { nmis, steps } = this.p.nodes[cursor];
    const sentence = `First reached after ${nmis} ${nmis === 1 ? "arrival" : "arrivals"} and ${steps} steps.`;
    return { heading: `Node ${cursor}`, text: this.said(cursor), sentence };
  }
  sentence(cursor) {
    const { text, sentence } = this.step(cursor);
    const where = this.walks ? ` Now ${this.said(this.node(cursor))}.` : "";
    return `${cursor}: ${this.walks ? "" : `${text}. `}${sentence}${where}`;
  }
  /** The ways out of a node and into it: [other node, labels, transitions, on the way]. */
  ways(node) {
    const out = this.p.edges.filter(([a]) => a === node).map(([, b, ...more]) => [b, ...more]);
    const into = this.p.edges.filter(([, b]) => b === node).map(([a, , ...more]) => [a, ...more]);
    return { out, into };
  }
  /** The node whose box a point lies in, null if none; `unit` px is a layer. */
  at(x, y, unit) {
    const { places, node } = this.p.drawing;
    const found = places.findIndex(
      ([layer, middle]) => Math.abs(layer * unit - x) <= node[0] / 2 && Math.abs(middle - y) <= node[1] / 2,
    );
    return found < 0 ? null : found;
  }
}
