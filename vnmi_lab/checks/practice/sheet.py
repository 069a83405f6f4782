"""Problems on paper: a page for each without the answers, and the key as a page of its own."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from html import escape

from vnmi_lab import timeline
from vnmi_lab.checks.bitset import SetBits
from vnmi_lab.checks.placing import NEVER, SAID_NEVER, PlaceFlag
from vnmi_lab.checks.practice.problem import MOST_SEED, Problem, problem
from vnmi_lab.checks.practice.scenes import LEVELS
from vnmi_lab.checks.practice.told import choices, solution
from vnmi_lab.checks.text import prose

MOST_PROBLEMS = 100
STYLE = """
body { font: 11pt/1.45 system-ui, sans-serif; color: #111; background: #fff; max-width: 62rem; margin: 0 auto;
  padding: 1rem }
h1 { font-size: 15pt; margin: 0 0 .2rem } h2 { font-size: 13pt; margin: 0 0 .4rem }
p { margin: .4rem 0 } code, pre { font: 10pt/1.4 ui-monospace, monospace }
pre { border: 1px solid #767676; border-radius: 4px; padding: .5rem .8rem; display: inline-block; margin: .3rem 0 }
section { padding: 1rem 0; border-top: 1px solid #767676 } section:first-of-type { border-top: 0 }
img { max-width: 100%; height: auto; display: block; margin: .4rem 0 }
ul { list-style: none; padding: 0; margin: .4rem 0 } li { margin: .25rem 0; padding-left: 2rem; text-indent: -2rem }
.box { display: inline-block; width: .8rem; height: .8rem; border: 1.5px solid #111; margin: 0 .7rem -1px .4rem;
  text-indent: 0 }
.run { display: flex; flex-wrap: wrap; align-items: flex-start; gap: .2rem 1.5rem } .run pre { flex: none }
ul.steps { columns: 2 } .given { font-weight: 600 } .said { font-weight: 600 }
@page { margin: 15mm } @media print { body { padding: 0; max-width: none } section { break-inside: avoid } }
"""


def problems(count: int, seed: int, level: int) -> list[Problem]:
    """Return so many problems of a level, from a seed on; ``ValueError`` in one line for what cannot be."""
    if not 1 <= count <= MOST_PROBLEMS:
        msg = f"a sheet has 1 to {MOST_PROBLEMS} problems, not {count}"
        raise ValueError(msg)
    first = problem(seed, level)
    if seed + count - 1 > MOST_SEED:
        msg = f"{count} problems from seed {seed} on would go beyond seed {MOST_SEED}"
        raise ValueError(msg)
    return [first, *(problem(number, level) for number in range(seed + 1, seed + count))]


def sheet(made: Sequence[Problem]) -> str:
    """Return the page with the problems and no answer."""
    body = "".join(f"<section><h2>{number}. {one.id}</h2>{_asked(one)}</section>" for number, one in _numbered(made))
    return _page(_title(made), f"<p>Name: {'_' * 40}</p>{body}")


def key(made: Sequence[Problem]) -> str:
    """Return the page with the answers, and why each is right or wrong."""
    body = "".join(
        f"<section><h2>{number}. {one.id}</h2><p>{prose(one.asked.question)}</p>"
        f'<p class="said">{prose(solution(one))}</p>{one.asked.truth().rows()}'
        f"<p>To see it: <code>vnmi-lab practice --seed {one.seed} --level {one.level} --reveal</code></p></section>"
        for number, one in _numbered(made)
    )
    return _page(f"Key. {_title(made)}", body)


def _numbered(made: Sequence[Problem]) -> list[tuple[int, Problem]]:
    return list(enumerate(made, start=1))


def _title(made: Sequence[Problem]) -> str:
    first, last = made[0], made[-1]
    which = first.id if first is last else f"{first.id} to {last.id}"
    return f"Level {first.level}: {LEVELS[first.level].about} ({which})"


def _page(title: str, body: str) -> str:
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f"<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; "
        f'img-src data:"><style>{STYLE}</style></head><body><main><h1>{escape(title)}</h1>{body}</main></body></html>\n'
    )


def _asked(one: Problem) -> str:
    asked = one.asked
    payload = {**timeline.build(asked.shown()), "flags": asked.given()}
    data, said = b64encode(timeline.svg(payload).encode()).decode(), escape(timeline.summary(payload))
    picture = f'<img alt="{said}" src="data:image/svg+xml;base64,{data}">'
    run = f'<div class="run"><pre>{escape(one.listing)}</pre>{picture}</div>'
    return f"<p>{prose(asked.question)}</p>{run}{_answers(one)}"


def _answers(one: Problem) -> str:
    """Return the boxes to be ticked."""
    asked, box = one.asked, '<span class="box"></span>'
    if isinstance(asked, SetBits):
        now = f"<p>Now <code>{escape(asked.written(asked.start()))}</code>. Which of these bits are 1 then?</p>"
        rows = [f"{box}bit {number}, {escape(name)}" for number, name in choices(one).items()]
        return f"{now}<ul>{_items(rows)}</ul>"
    if isinstance(asked, PlaceFlag):
        marks = {str(flag.step): f' <span class="given">({escape(flag.text)})</span>' for flag in asked.given()}
        rows = [
            f"{box}before step {step}: <code>{escape(text)}</code>{marks.get(step, '')}"
            for step, text in choices(one).items()
            if step != NEVER
        ]
        rows.append(f"{box}{SAID_NEVER}")
        return f'<ul class="steps">{_items(rows)}</ul>'
    return f"<ul>{_items([f'{box}{letter}. {prose(text)}' for letter, text in choices(one).items()])}</ul>"


def _items(rows: Sequence[str]) -> str:
    return "".join(f"<li>{row}</li>" for row in rows)
