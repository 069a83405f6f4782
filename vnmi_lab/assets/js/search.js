// Search: which steps speak of something.

/** The steps up to `limit` whose text, sentence, changed fields, rules or KVM functions contain a text, in any case. */
export function stepsWith(run, text, limit) {
  const wanted = text.trim().toLowerCase();
  if (!wanted) return [];
  const has = (word) => String(word).toLowerCase().includes(wanted);
  const words = run.p.words.map(has); // each distinct text is looked at once
  const called = run.p.calls.functions.map(([name, file]) => has(name) || has(file));
  const paths = run.p.calls.paths.map((path) => path.some(([, which]) => called[which]));
  const found = new Set();
  for (let step = 0; step <= limit; step++)
    if (words[run.p.text[step]] || words[run.p.sentence[step]]) found.add(step);
  for (const [step, rule, field] of run.p.changes) if (step <= limit && (has(rule) || has(field))) found.add(step);
  for (const [step, path] of run.p.calls.at) if (step <= limit && paths[path]) found.add(step);
  return [...found].sort((a, b) => a - b);
}

/** The next (way 1) or previous (way -1) of some steps seen from one, around the ends; -1 when there are none. */
export function nextHit(hits, from, way) {
  if (!hits.length) return -1;
  if (way > 0) return hits.find((step) => step > from) ?? hits[0];
  return hits.findLast((step) => step < from) ?? hits.at(-1);
}
