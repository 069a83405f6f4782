"""The table of formats, the names of files, the tables, WaveDrom and the page; the others have their own tests."""

from __future__ import annotations

import csv
import io
import json
import re
from html.parser import HTMLParser
from xml.etree import ElementTree as ET

import pytest
import wavedrom as renderer

from tests.export_runs import EDGES, Make, bare, every_run, of, single, worded
from tests.timeline_runs import Run, hostile, looping
from vnmi_lab import export
from vnmi_lab.export import FORMATS, write
from vnmi_lab.export.page import player, skeleton
from vnmi_lab.export.tables import COLUMNS, FORMULA
from vnmi_lab.export.wavedrom import MOST
from vnmi_lab.timeline import Payload, asset, build, script

# --- every format -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", FORMATS)
def test_a_format_says_what_it_is(key: str) -> None:
    chosen = FORMATS[key]
    assert chosen.sentence.endswith(".")
    assert chosen.opens
    assert re.fullmatch(r"(\.[a-z]+)+", chosen.suffix)
    assert re.fullmatch(r"[a-z]+/[a-z0-9+-]+", chosen.mime)


@pytest.mark.parametrize("key", FORMATS)
@pytest.mark.parametrize("make", EDGES.values(), ids=EDGES)
def test_every_format_writes_every_run_twice_the_same_and_as_utf8(key: str, make: Make) -> None:
    made = write(make(), key)
    assert made == write(make(), key)
    assert made.text.encode("utf-8", "surrogatepass")
    assert made.text.endswith(("\n", "</svg>"))


@pytest.mark.parametrize("key", FORMATS)
def test_a_run_without_a_step_is_a_table_of_none_or_says_why_it_cannot_be_drawn(key: str) -> None:
    if FORMATS[key].needs_trace:
        assert write(Run("nothing"), key).name.startswith("vnmi-lab-nothing.")
    else:
        with pytest.raises(ValueError, match="at least one step"):
            write(Run("nothing"), key)


@pytest.mark.parametrize("key", FORMATS)
def test_a_payload_is_enough_where_the_table_says_so(key: str) -> None:
    payload = build(bare())
    if FORMATS[key].needs_trace:
        with pytest.raises(ValueError, match="needs the trace"):
            write(payload, key)
    else:
        assert write(payload, key) == write(bare(), key)


def test_a_format_that_is_not_there_gets_one_line_with_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"^vnmi_lab.export has no format 'perfeto'; did you mean 'perfetto'\?$"):
        write(single(), "perfeto")


@pytest.mark.parametrize(
    ("title", "name"),
    [
        ("v1~plain~vnmi~nmi@work~nmix10@body", "vnmi-lab-plain-vnmi-nmi-work-nmix10-body.vcd"),
        ("../../etc/passwd", "vnmi-lab-etc-passwd.vcd"),
        ("", "vnmi-lab-run.vcd"),
        ("\u00fc/\\:*?\n", "vnmi-lab-run.vcd"),
        ("a" * 400, f"vnmi-lab-{'a' * 60}.vcd"),
    ],
)
def test_a_file_is_named_after_its_run_on_every_system(title: str, name: str) -> None:
    assert write(Run(title).run(), "vcd").name == name


def test_hidden_steps_are_in_the_page_and_are_shown() -> None:
    payload = build(bare(), visible_until=3)
    assert write(payload, "svg") == write(bare(), "svg")
    assert in_page(write(payload, "html").text)["visible_until"] is None


# --- tables -----------------------------------------------------------------------------------------------------------


@every_run
def test_json_and_json_lines_give_back_every_step(make: Make) -> None:
    trace = make()
    whole = json.loads(write(trace, "json").text)
    lines = [json.loads(line) for line in write(trace, "jsonl").text.splitlines()]
    assert whole == {"scenario": trace.title, "steps": lines}
    for index in range(len(trace)):
        step, row = trace[index], lines[index]
        assert [row[key] for key in ("index", "kind", "world", "rip", "text", "sentence")] == [
            step.index, step.kind, step.world, step.rip, step.text, step.sentence,
        ]  # fmt: skip
        assert row["changes"] == [[change.rule, change.field, change.old, change.new] for change in step.changes]
        assert row["state"] == step.state
        assert [tuple(line) for line in row["stack"]] == list(step.stack)
        assert [tuple(call) for call in row["calls"]] == list(step.calls)


@every_run
def test_csv_gives_back_every_step(make: Make) -> None:
    trace = make()
    head, *rows = list(csv.reader(io.StringIO(write(trace, "csv").text, newline="")))
    assert tuple(head[: len(COLUMNS)]) == COLUMNS
    assert len(set(head)) == len(head)
    assert len(rows) == len(trace)
    for index, row in enumerate(rows):
        step, cells = trace[index], dict(zip(head, row, strict=True))
        assert (int(cells["step"]), int(cells["rip"], 0)) == (step.index, step.rip)
        for key in ("kind", "world", "text", "sentence"):
            assert bare_text(cells[key]) == getattr(step, key)
        state = {key.removeprefix("state."): cells[key] for key in head[len(COLUMNS) :]}
        for key, value in step.state.items():
            found = state[key]
            read = None if found == "" else bare_text(found) if isinstance(value, str) else int(found, 0)
            assert read == value, key
        assert cells["changes"].count(" to ") >= len(step.changes)


def bare_text(cell: str) -> str:
    return cell[1:] if cell.startswith("'") and cell[1:].startswith(FORMULA) else cell


def test_no_cell_is_a_formula_to_a_spreadsheet() -> None:
    for row in csv.reader(io.StringIO(write(worded(), "csv").text, newline="")):
        assert not any(cell.startswith(FORMULA) for cell in row)


def test_text_has_a_line_a_step() -> None:
    trace = of("in-handler", "legacy")
    lines = write(trace, "text").text.splitlines()
    assert len(lines) == len(trace)
    assert lines[4].startswith("   4 guest NMI arrives ")


# --- WaveDrom ---------------------------------------------------------------------------------------------------------


def lanes(signal: list[object]) -> dict[str, dict[str, str | list[str]]]:
    found: dict[str, dict[str, str | list[str]]] = {}
    for part in signal:
        if isinstance(part, list):
            found |= lanes(part[1:])
        elif isinstance(part, dict) and part:
            found[part["name"]] = part
    return found


@every_run
def test_wavedrom_draws_the_waves_of_the_run(make: Make) -> None:
    trace = make()
    text = write(trace, "wavedrom").text
    diagram = json.loads(text)
    found = lanes(diagram["signal"])
    shown = min(len(trace), MOST)
    for name, lane in found.items():
        assert len(lane["wave"]) == shown
        assert len(lane.get("data", [])) == sum(letter == "=" for letter in lane["wave"])
        level = ""
        for step, letter in enumerate(lane["wave"]):
            level = level if letter == "." else letter
            if name in trace[step].state and "data" not in lane:
                assert {"0": 0, "1": 1, "x": None}[level] == trace[step].state[name]
    nodes = {letter for lane in found.values() for letter in lane.get("node", "") if letter != "."}
    assert {end for edge in diagram.get("edge", []) for end in edge.split("~>")} == nodes


@pytest.mark.parametrize(
    "make", [lambda: of("in-handler", "legacy"), bare, single, hostile], ids=["legacy", "bare", "single", "hostile"]
)
def test_wavedrom_s_own_renderer_draws_it(make: Make) -> None:
    drawn = renderer.render(write(make(), "wavedrom").text).tostring()
    tree = ET.fromstring(drawn)  # noqa: S314 - our own picture
    said = ["".join(node.itertext()) for node in tree.iter() if node.tag.endswith("text")]
    assert {"world", "step"} <= set(said)


def test_a_long_wavedrom_says_that_it_is_cut() -> None:
    foot = json.loads(write(looping(1500), "wavedrom").text)["foot"]["text"]
    assert foot == "Steps 0 to 199 of 1,513; VCD holds them all."


# --- the page ---------------------------------------------------------------------------------------------------------


class Blocks(HTMLParser):
    """The texts of scripts and styles, and every attribute, as a browser splits them."""

    def __init__(self) -> None:
        super().__init__()
        self.scripts: list[tuple[dict[str, str | None], str]] = []
        self.found: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag == "script":
            self.scripts.append((dict(attrs), ""))

    def handle_data(self, data: str) -> None:
        if self.lasttag == "script":
            attributes, text = self.scripts[-1]
            self.scripts[-1] = (attributes, text + data)


def blocks(text: str) -> Blocks:
    parser = Blocks()
    parser.feed(text)
    return parser


def in_page(text: str) -> Payload:
    found: Payload = json.loads(blocks(text).scripts[0][1])
    return found


@pytest.mark.parametrize("make", EDGES.values(), ids=EDGES)
def test_the_page_holds_the_payload_and_nothing_else_of_the_run_is_markup(make: Make) -> None:
    text = write(make(), "html").text
    found, plain = blocks(text), blocks(write(bare(), "html").text)
    assert in_page(text) == json.loads(json.dumps(build(make())))
    assert found.found == plain.found
    assert found.scripts[1] == plain.scripts[1]
    assert len(found.scripts) == 2


def test_the_page_may_run_its_own_script_and_ask_for_nothing() -> None:
    page = write(hostile(), "html").text
    policy = next(a["content"] for tag, a in blocks(page).found if a.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == "'none'"
    assert re.fullmatch(r"'sha256-[A-Za-z0-9+/]{43}='", rules["script-src"])
    assert not [a for _, a in blocks(page).found if {"src", "href"} & a.keys()]


def test_nothing_in_the_player_ends_its_script_early_or_is_a_place_to_fill() -> None:
    assert not re.search(r"</script|<!--|\]\]>", player(), re.IGNORECASE)
    assert "</style" not in asset("player.css").lower()
    assert skeleton().count("@@") == 10
    assert player() + "export default { render };\n" == script("timeline")


def test_the_package_names_what_it_offers() -> None:
    assert set(export.__all__) == {"FORMATS", "Export", "Format", "known", "write"}
