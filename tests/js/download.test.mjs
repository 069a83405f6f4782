import assert from "node:assert/strict";
import { test } from "node:test";

import { filledPage } from "../../vnmi_lab/assets/js/download.js";

const SKELETON = "<title>@@title@@</title><style>@@style@@</style><b>@@payload@@</b><script>@@script@@go()</script>";
const EVIL = "</script><img src=x onerror='a()'>@@script@@&\"$&";

test("a page of its own holds the run, and nothing of it is markup", () => {
  const payload = { title: EVIL, visible_until: 3, words: [EVIL, "\u2192"] };
  const page = filledPage(SKELETON, payload, "const a = 1;\nexport default { render };\n", "p { color: red }");
  const [, title, style, json, script] = page.match(/^<title>(.*)<.title><style>(.*)<.style><b>(.*)<.b><script>(.*)<.script>$/s);
  assert.ok(!/[<>"']/.test(title));
  assert.equal(style, "p { color: red }");
  assert.ok(!json.includes("<"));
  assert.deepEqual(JSON.parse(json), { ...payload, visible_until: null });
  assert.equal(script, "const a = 1;\ngo()");
});
