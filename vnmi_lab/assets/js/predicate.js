// Conditions a learner types, such as `v_nmi_pending == 1 and gif == 0`. Text in, a function out; nothing is evaluated
// as a program.
//
//   or   = and {"or" and}          and  = not {"and" not}          not = "not" not | "(" or ")" | test
//   test = value [("==" | "!=" | "<" | "<=" | ">" | ">=") value]   value = number | field | "none"

const LONGEST = 500; // characters
const DEEPEST = 50; // "(" and "not" inside one another
const PARTS = /\s+|==|!=|<=|>=|&&|\|\||[<>()!=]|[A-Za-z0-9_.]+|./gsu;
const SAME_AS = new Map([
  ["&&", "and"],
  ["||", "or"],
  ["!", "not"],
  ["=", "=="],
]);
const TESTS = {
  "==": (a, b) => a === b,
  "!=": (a, b) => a !== b,
  "<": (a, b) => a < b,
  "<=": (a, b) => a <= b,
  ">": (a, b) => a > b,
  ">=": (a, b) => a >= b,
};

/** What is wrong with a condition, in one line, and the character where it is, counted from 1. */
export class ConditionError extends Error {
  constructor(message, position) {
    super(`character ${position}: ${message}`);
    this.position = position;
  }
}

/** A number as learners write them: 12, 0x60, and 80000200h as in the APM; null for what is none. */
export function numberOf(text) {
  if (/^[0-9]+$/.test(text)) return BigInt(text);
  if (/^0x[0-9a-f]+$/i.test(text)) return BigInt(text);
  if (/^[0-9a-f]+h$/i.test(text)) return BigInt(`0x${text.slice(0, -1)}`);
  return null;
}

/** A value of the state as the tests compare it: an integer, or null when the field has none. */
function comparable(value) {
  if (value === null || value === undefined) return null;
  return typeof value === "number" ? BigInt(value) : numberOf(String(value));
}

/** Up to three names that are near an unknown one. */
export function nearNames(name, known) {
  const said = name.toLowerCase();
  const far = (other) => {
    const here = other.toLowerCase();
    return here.includes(said) || said.includes(here) ? Math.abs(here.length - said.length) / 4 : distance(said, here);
  };
  const near = known.map((other) => [far(other), other]).filter(([away]) => away <= Math.max(2, said.length / 3));
  return near
    .sort((a, b) => a[0] - b[0])
    .slice(0, 3)
    .map(([, other]) => other);
}

/** How many letters to put in, leave out or change to make one word another. */
function distance(one, other) {
  let row = Array.from({ length: other.length + 1 }, (_, n) => n);
  for (let i = 1; i <= one.length; i++) {
    const next = [i];
    for (let j = 1; j <= other.length; j++)
      next[j] = Math.min(next[j - 1] + 1, row[j] + 1, row[j - 1] + (one[i - 1] === other[j - 1] ? 0 : 1));
    row = next;
  }
  return row[other.length];
}

class ConditionReader {
  constructor(text, fields) {
    this.fields = fields;
    this.end = text.length + 1;
    this.parts = [];
    for (const { 0: word, index } of text.matchAll(PARTS))
      if (word.trim()) this.parts.push({ word: SAME_AS.get(word) || word, position: index + 1 });
    this.next = 0;
    this.depth = 0;
  }
  get word() {
    return this.parts[this.next]?.word;
  }
  get position() {
    return this.parts[this.next]?.position ?? this.end;
  }
  take(word) {
    if (this.word !== word) return false;
    this.next++;
    return true;
  }
  fail(message, position = this.position) {
    throw new ConditionError(message, position);
  }
  whole() {
    const test = this.either();
    if (this.next < this.parts.length) this.fail(`"${this.word}" is not expected here; "and" or "or" may follow`);
    return test;
  }
  either() {
    let test = this.both();
    while (this.take("or")) {
      const [a, b] = [test, this.both()];
      test = (get) => a(get) || b(get);
    }
    return test;
  }
  both() {
    let test = this.unary();
    while (this.take("and")) {
      const [a, b] = [test, this.unary()];
      test = (get) => a(get) && b(get);
    }
    return test;
  }
  unary() {
    if (++this.depth > DEEPEST) this.fail(`more than ${DEEPEST} "(" or "not" inside one another`);
    const test = this.nested();
    this.depth--;
    return test;
  }
  nested() {
    if (this.take("not")) {
      const inner = this.unary();
      return (get) => !inner(get);
    }
    const opened = this.position;
    if (!this.take("(")) return this.test();
    const inner = this.either();
    if (!this.take(")")) this.fail('this "(" is not closed', opened);
    return inner;
  }
  test() {
    const left = this.value();
    const compare = Object.hasOwn(TESTS, this.word ?? "") ? TESTS[this.word] : null;
    if (!compare) return (get) => Boolean(left(get));
    const ordered = !["==", "!="].includes(this.parts[this.next++].word);
    const right = this.value();
    return (get) => {
      const [a, b] = [left(get), right(get)];
      return ordered && (a === null || b === null) ? false : compare(a, b); // "none" is neither more nor less
    };
  }
  value() {
    const { word, position } = this;
    if (word === undefined) this.fail("a field or a number is missing at the end");
    if (!/^[A-Za-z0-9_.]+$/.test(word) || ["and", "or", "not"].includes(word))
      this.fail(`a field or a number is expected, not "${word}"`);
    this.next++;
    if (this.fields.includes(word)) return (get) => comparable(get(word));
    if (word === "none") return () => null;
    const number = numberOf(word);
    if (number !== null) return () => number;
    if (/^[0-9]/.test(word)) this.fail(`"${word}" is no number; write 12, 0x60 or 80000200h`, position);
    const near = nearNames(word, this.fields);
    const hint = near.length ? `near it: ${near.join(", ")}` : `this run has ${this.fields.slice(0, 4).join(", ")}, …`;
    return this.fail(`no field is called "${word}"; ${hint}`, position);
  }
}

/** Read a condition over some fields: a function of `get(field)` that says whether it holds. Throws ConditionError. */
export function condition(text, fields) {
  if (text.length > LONGEST) throw new ConditionError(`a condition has at most ${LONGEST} characters`, LONGEST + 1);
  if (!text.trim()) throw new ConditionError("nothing is written yet, try nmi_mask == 1", 1);
  return new ConditionReader(text, fields).whole();
}
