"""The class as one HTML page: tables, no script, nothing from elsewhere; every text in it is escaped."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape

from vnmi_lab.checks.text import prose
from vnmi_lab.grading.classroom import OUTCOMES, SKIPPED, Asking, Class, Said, Tally, worst

STYLE = """
:root{color-scheme:light dark;--text:#1b1b1b;--back:#fff;--soft:#595959;--line:#c4c4c4;--bar:#7aa6d8;--right:#69b17e}
@media (prefers-color-scheme:dark){:root{--text:#e8e8e8;--back:#161616;--soft:#b0b0b0;--line:#4a4a4a;--bar:#35608f;
--right:#2f6f45}}
body{font:16px/1.5 system-ui,sans-serif;color:var(--text);background:var(--back);max-width:68em;margin:0 auto;
padding:1.5em}
h1{line-height:1.2;margin:0 0 .2em}h2{margin:2em 0 .4em}h3{margin:1.6em 0 .2em}p{margin:.3em 0}
.soft{color:var(--soft)}
.wide{overflow-x:auto}
table{border-collapse:collapse;width:100%;margin:.6em 0}
caption{text-align:left;color:var(--soft);padding:.2em 0}
th,td{text-align:left;vertical-align:top;padding:.35em .7em .35em 0;border-bottom:1px solid var(--line)}
thead th{white-space:nowrap}
.n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
tbody th{font-weight:400}.right th{font-weight:600}
.share span{display:inline-block;min-width:3em}
.share .bar{height:.75em;background:var(--bar);border:1px solid var(--soft);min-width:0;box-sizing:border-box}
.right .bar{background:var(--right)}
.share{width:11em;white-space:nowrap}.answers th:first-child{width:34%}.answers{min-width:46em}
code{font-family:ui-monospace,monospace;font-size:.95em}
@media print{body{max-width:none;padding:0}tr{break-inside:avoid}.bar{print-color-adjust:exact}}
""".strip()
POLICY = "default-src 'none'; style-src 'unsafe-inline'"


def page(counted: Class) -> str:
    """Return the page."""
    body = "\n".join(_body(counted))
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>The class in vnmi_lab</title>\n<style>{STYLE}</style>\n</head>\n"
        f"<body>\n<main>\n{body}\n</main>\n</body>\n</html>\n"
    )


def _body(counted: Class) -> Iterator[str]:
    labs = ", ".join(lab.number for lab in counted.labs()) or "none"
    yield f'<h1>The class</h1><p class="soft">Counted: {counted.learners} files of learners. Labs begun: {labs}.</p>'
    yield "<h2>Missed most</h2>"
    yield from _most("exercise", [_task(tally) for tally in worst(counted.exercises.values())])
    yield from _most("prediction", [_question(asking) for asking in worst(counted.predictions.values())])
    for lab in counted.labs():
        yield f"<h2>Lab {lab.number}: {escape(lab.title)}</h2>"
        yield _exercises([counted.exercises[exercise.id] for exercise in lab.exercises])
        for prediction in lab.predictions:
            asking = counted.predictions[prediction.id]
            if asking.learners:
                yield f"<h3>{_name(prediction.id)}</h3>{_asking(asking)}"


def _most(what: str, items: Sequence[str]) -> Iterator[str]:
    yield f"<h3>{what.capitalize()}s</h3>"
    if items:
        yield f"<ol>{''.join(f'<li>{item}</li>' for item in items)}</ol>"
    else:
        yield f'<p class="soft">No {what} was missed.</p>'


def _task(tally: Tally) -> str:
    said = f"{_name(tally.id)}: {_of(tally.missed, tally.tried)} of those who answered. {prose(tally.task)}"
    if not tally.messages:
        return said
    message, times = tally.messages.most_common(1)[0]
    return f'{said}<br><span class="soft">Heard most, {_times(times)}: {prose(message)}</span>'


def _question(asking: Asking) -> str:
    wrong = asking.misconception()
    said = f"{_name(asking.prediction.id)}: {_of(asking.missed, asking.tried)} of those who answered."
    heard = f"Said most, {_times(wrong.times)}: <em>{prose(wrong.text)}</em> {prose(wrong.why)}"
    return f'{said} {prose(asking.prediction.question)}<br><span class="soft">{heard}</span>'


def _exercises(tallies: Sequence[Tally]) -> str:
    heads = "".join(f'<th scope="col" class="n">{escape(outcome)}</th>' for outcome in OUTCOMES)
    rows = "".join(
        f'<tr><th scope="row">{_name(tally.id)}</th>'
        + "".join(f'<td class="n">{tally.outcomes[outcome]}</td>' for outcome in OUTCOMES)
        + f'<td class="share right">{_bar(tally.outcomes["correct"], tally.learners)}</td></tr>'
        for tally in tallies
    )
    return _table(
        "Exercises, by outcome", f'<th scope="col">exercise</th>{heads}<th scope="col">share correct</th>', rows
    )


def _asking(asking: Asking) -> str:
    rows = "".join(
        f'<tr{_class(is_right=said.is_right)}><th scope="row">{prose(said.text)}</th>'
        f"<td>{_word(said)}</td>"
        f'<td class="n">{said.times}</td>'
        f'<td class="share">{_bar(said.times, asking.learners)}</td><td>{prose(said.why)}</td></tr>'
        for said in asking.said()
    )
    heads = "".join(f'<th scope="col">{head}</th>' for head in ("said first", "right", "count", "share", "why"))
    return f"<p>{prose(asking.prediction.question)}</p>{_table('Answers', heads, rows, 'answers')}"


def _word(said: Said) -> str:
    return "" if said.text == SKIPPED else "yes" if said.is_right else "no"


def _class(*, is_right: bool) -> str:
    return ' class="right"' if is_right else ""


def _table(caption: str, heads: str, rows: str, kind: str = "counts") -> str:
    head = f"<caption>{caption}</caption><thead><tr>{heads}</tr></thead>"
    return f'<div class="wide" tabindex="0"><table class="{kind}">{head}<tbody>{rows}</tbody></table></div>'


def _bar(count: int, of: int) -> str:
    share = round(100 * count / of) if of else 0
    if not count:
        return f"<span>{share}%</span>"
    return f'<span>{share}%</span><span class="bar" style="width:{share * 7 / 100:.2f}em" aria-hidden="true"></span>'


def _name(id_: str) -> str:
    return f"<code>{escape(id_)}</code>"


def _of(count: int, whole: int) -> str:
    return f"{count} of {whole}"


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"
