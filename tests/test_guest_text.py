"""A guest as it is typed: read back as written, and refused with line, column and what would be right."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output

from vnmi_lab.guest_text import LONGEST, GuestTextError, listed, same, source_of, text_of
from vnmi_lab.guests import GUESTS, Source
from vnmi_lab.scenario import Scenario
from vnmi_lab.widgets.notebook import register

TYPED = """
start:  sti
work:   nop               ; here it is interrupted
rest:   hlt
        jmp rest

Handler NMI :             ; counts
entry:  inc qword [rbx+16]
        iretq
handler 0x0d:
        iretq
"""


@pytest.mark.parametrize("name", GUESTS)
def test_every_guest_of_the_library_reads_back_as_the_same_program(name: str) -> None:
    source = GUESTS[name].source
    text = text_of(source)
    again = source_of(text)
    assert again.guest() == source.guest()
    assert again.guest().labels() == source.guest().labels()
    assert same(again, source)
    assert text_of(again) == text


def test_a_typed_guest_has_its_handlers_by_vector_and_goes_into_a_scenario() -> None:
    source = source_of(TYPED)
    assert [vector for vector, _ in source.handlers] == [2, 13]
    assert {"work", "entry", "h2.entry"} <= source.guest().labels().keys()
    assert Scenario.parse(str(Scenario(source))) == Scenario(source)
    assert any("handler nmi:" in line for line in listed(source.guest()))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: nop\n itn3\n", "line 2, column 2: unknown instruction 'itn3': did you mean 'int3'?"),
        ("nop\nhandler 2\n", "line 2, column 1: a handler begins with a line such as 'handler nmi:' or 'handler 13:'"),
        (f"nop\nhandler {5000 * '9'}:\n", "line 2, column 9: a vector is a number from 0 to 255, or nmi, not '9999"),
        ("nop\nhandler gp:\n", "line 2, column 9: a vector is a number from 0 to 255, or nmi, not 'gp'"),
        ("nop\nhandler 256:\n", "line 2, column 9: a vector must be 0 to 255, not 256"),
        ("nop\nhandler 2:\niretq\nhandler nmi:", "line 4, column 9: vector 2 has a handler already, on line 2"),
        ("\n\nnop\nhandler nmi:\n\n\tpush xax", "line 6, column 7: unknown name 'xax'"),
        ("nop\nhandler 2:\ntimes 300 nop", "line 2, column 1: the handler of vector 2 is 300 bytes long; at most 256"),
        ("; nothing\n", "line 1, column 1: main has no instruction: write one, such as 'start: nop'"),
        ("n" * (LONGEST + 1), "line 1, column 1: a guest has at most 20,000 characters, not 20,001"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(text: str, said: str) -> None:
    with pytest.raises(GuestTextError) as caught:
        source_of(text)
    assert str(caught.value).startswith(said)


def test_the_place_is_pointed_at_below_the_line() -> None:
    with pytest.raises(GuestTextError) as caught:
        source_of("nop\n\tmov rax, 1, 2")
    line, caret = caught.value.pointed.splitlines()
    assert line == "   2 |     mov rax, 1, 2"
    assert line[caret.index("^") :].startswith("mov")


@given(st.text(alphabet="ab:handler 2nmiop\n\t;,[]x0", max_size=60))
def test_any_text_is_a_guest_or_is_refused_in_one_line(text: str) -> None:
    try:
        source = source_of(text)
    except GuestTextError as error:
        said, line = str(error), error.line
    else:
        said, line = "", 1
        assert same(source_of(text_of(source)), source)
    assert "\n" not in said
    assert 1 <= line <= text.count("\n") + 1


# --- the cell magic


@pytest.fixture
def shell() -> Iterator[InteractiveShell]:
    shell = InteractiveShell.instance()
    assert register()
    yield shell
    InteractiveShell.clear_instance()


def run(shell: InteractiveShell, source: str) -> str:
    with capture_output() as seen:
        done = shell.run_cell(source)  # type: ignore[no-untyped-call]  # IPython has not typed it
    assert done.success, "an error is shown, it is not raised"
    return "\n".join([seen.stdout, *(output.data["text/plain"] for output in seen.outputs)])


def test_a_cell_becomes_a_guest_and_shows_its_listing(shell: InteractiveShell) -> None:
    said = run(shell, f"%load_ext vnmi_lab\n%%guest mine\n{TYPED}".split("\n", 1)[1])
    assert "mine is a guest of 5 bytes: show(mine) runs it." in said
    assert "310200  48 ff 43 10               entry:   inc qword [rbx+0x10]" in said
    assert shell.user_ns["mine"] == source_of(TYPED)
    assert isinstance(shell.user_ns["mine"], Source)
    run(
        shell,
        "from vnmi_lab import show, Scenario, Stimulus\nbench = show(Scenario(mine, stimuli=(Stimulus('work'),)))",
    )
    assert shell.user_ns["bench"].counts.delivered == 1


@pytest.mark.parametrize(
    ("cell", "said"),
    [
        (
            "%%guest mine\nnop\nitn3\n",
            "line 2, column 1: unknown instruction 'itn3': did you mean 'int3'?\n   2 | itn3\n",
        ),
        ("%%guest\nnop", "name the guest in the first line: %%guest mine"),
        ("%%guest 1st one\nnop", "name the guest in the first line: %%guest mine, not '1st one'"),
        ("%%guest print\nnop", "print is a function here already, and stays one: name the guest"),
        ("%%guest class\nnop", "name the guest in the first line: %%guest mine, not 'class'"),
        ("%%guest mine\n<script>", "line 1, column 1: "),
    ],
)
def test_an_error_in_a_cell_is_shown_in_place_and_binds_nothing(shell: InteractiveShell, cell: str, said: str) -> None:
    assert said in run(shell, cell)
    assert "mine" not in shell.user_ns
    run(shell, "%%guest mine\nnop")
    assert "mine stays as it was." in run(shell, "%%guest mine\nitn3")
    assert shell.user_ns["mine"] == Source("nop")
    run(shell, "%load_ext vnmi_lab")
