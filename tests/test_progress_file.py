"""A learner's progress in its file: what is kept, and what becomes of it when something goes wrong."""

from __future__ import annotations

import json
import multiprocessing
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.kept import restart, rows
from vnmi_lab.checks import Prediction, lab01, progress
from vnmi_lab.checks.map import report
from vnmi_lab.checks.record import FORMAT, VERSION, Log, Noted, dump, parse
from vnmi_lab.checks.saved import FILE, Saved, read

CHOICE: Prediction = lab01.second_nmi


@pytest.fixture
def said(tmp_path: Path) -> list[str]:
    """Progress is kept in a file now; the messages about it."""
    return restart(tmp_path / FILE)


# --- the file --------------------------------------------------------------------------------------------------------


def test_everything_is_there_again_after_a_restart(said: list[str], tmp_path: Path) -> None:
    CHOICE.choose("A")
    lab01.ten_more.skip()
    lab01.two_runs.hint()
    lab01.two_runs.hint()
    lab01.two_runs.solution()
    lab01.open_the_door.check("handler: iretq")
    before, standing = repr(report()), rows()
    restart(tmp_path / FILE)
    assert (repr(report()), rows()) == (before, standing)
    assert lab01.two_runs.hint().title == "Hint 3 of 3"
    earlier = [one.earlier() for one in (CHOICE, lab01.ten_more)]
    assert [one and one.reveal.said for one in earlier] == ["wrong", "skipped"]
    assert said == []


def test_the_file_is_readable_and_says_what_it_is(said: list[str], tmp_path: Path) -> None:
    CHOICE.choose("C")
    text = (tmp_path / FILE).read_text(encoding="utf-8")
    there = json.loads(text)
    assert (there["format"], there["version"], there["name"]) == (FORMAT, VERSION, "")
    [note] = there["notes"]
    assert (note["id"], note["kind"], note["said"], note["answer"]) == ("lab01.second_nmi", "choose", "right", "C")
    assert len(text.splitlines()) == 3, "a line for each note"
    assert [path.name for path in tmp_path.iterdir()] == [FILE]
    assert said == []


def test_what_is_done_a_thousand_times_is_one_note() -> None:
    for _ in range(1000):
        lab01.two_runs.hint(1)
    [noted] = progress.noted()
    assert noted.times == 1000


def test_two_notes_never_have_the_same_time(monkeypatch: pytest.MonkeyPatch) -> None:
    from vnmi_lab.checks import saved

    class Stopped(datetime):
        @classmethod
        def now(cls, tz: object = None) -> Stopped:
            del tz
            return cls(2026, 1, 1, tzinfo=UTC)

    monkeypatch.setattr(saved, "datetime", Stopped)
    progress.use(Saved())
    lab01.two_runs.hint(3)
    lab01.two_runs.reset()
    assert progress.hints_used("lab01.two_runs") == 0
    lab01.two_runs.hint(2)
    assert progress.hints_used("lab01.two_runs") == 2


EVIL = "\udc80<b>\n\N{SNOWMAN}" + "x" * 1000


def test_strange_values_are_kept_short_and_come_back(said: list[str], tmp_path: Path) -> None:
    progress.note("practice.x~1", "set", answer=EVIL, word=1 << 100_000)
    assert said == []
    [noted] = read(tmp_path / FILE)
    assert noted.get("answer") == EVIL[:200]
    assert str(noted.get("word")).startswith("0x1000")


# --- what goes wrong -------------------------------------------------------------------------------------------------

GOOD = '{"format": "vnmi_lab progress", "version": 1, "name": "", "notes": [%s]}'
NOTE = (
    '{"id": "lab01.x", "kind": "hint", "number": 1, "times": 1, "first": "2026-01-01T00:00:00.000000Z",'
    ' "last": "2026-01-01T00:00:00.000000Z", "kernel": "1f"}'
)
UNREADABLE = {
    "cut off": ((GOOD % NOTE)[:-40], "no JSON"),
    "empty": ("", "no JSON"),
    "deep": ("[" * 100_000, "no JSON"),
    "a list": ("[]", "does not say"),
    "another format": (GOOD.replace("vnmi_lab", "other") % "", "does not say"),
    "no notes": ('{"format": "vnmi_lab progress", "version": 1}', "no list of notes"),
    "a note of text": (GOOD % '"x"', "note 1 is no object"),
    "an id with a tag": (GOOD % NOTE.replace("lab01.x", "<b>"), "note 1 has no proper id"),
    "a kind nobody knows": (GOOD % NOTE.replace('"hint"', '"cheat"'), "note 1 has no proper kind"),
    "times that are none": (GOOD % NOTE.replace('"times": 1', '"times": true'), "note 1 has no proper times"),
    "a time that is none": (GOOD % NOTE.replace('"first": "2026', '"first": "x'), "note 1 has no proper first"),
    "nested data": (GOOD % NOTE.replace('"number": 1', '"number": [1]'), "note 1 has data of another kind"),
    "large": (" " * 10_000_001, "more than 10,000,000"),
    "another version": (GOOD.replace('"version": 1', '"version": 2') % "", "of version 2, and this vnmi_lab knows"),
}


@pytest.mark.parametrize("case", UNREADABLE)
def test_a_file_that_cannot_be_read_is_kept_aside_and_said_once(case: str, said: list[str], tmp_path: Path) -> None:
    text, why = UNREADABLE[case]
    (tmp_path / FILE).write_text(text)
    lab01.two_runs.hint()
    lab01.two_runs.hint()
    [message] = said
    assert why in message
    assert "\n" not in message
    assert "vnmi-progress.kept-1.json" in message
    assert (tmp_path / "vnmi-progress.kept-1.json").read_text() == text
    assert len(read(tmp_path / FILE)) == 2
    (tmp_path / FILE).write_text("another")
    lab01.two_runs.hint()
    assert (tmp_path / "vnmi-progress.kept-2.json").read_text() == "another"
    assert len(read(tmp_path / FILE)) == 3, "what was noted before is written again"


def test_bytes_that_are_no_text_are_kept_aside(said: list[str], tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(b"\xff\xfe\x00")
    CHOICE.skip()
    assert (tmp_path / "vnmi-progress.kept-1.json").read_bytes() == b"\xff\xfe\x00"
    assert "it is no text" in said[0]


def _as_nobody(path: Path) -> None:
    os.setgid(65534)
    os.setuid(65534)
    messages = restart(path)
    CHOICE.choose("A")
    lab01.two_runs.hint()
    [message] = messages
    assert "cannot be saved" in message
    assert "Permission denied" in message
    assert "download" in message
    assert len(progress.noted()) == 2
    assert (report().source, "cannot be saved" in repr(report())) == (message, True)


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="no such permissions")
@pytest.mark.parametrize("there", ["no file", "a file"])
def test_in_a_read_only_folder_progress_is_kept_in_memory_and_that_is_said(there: str, tmp_path: Path) -> None:
    folder = tmp_path / "labs"
    folder.mkdir()
    if there == "a file":
        (folder / FILE).write_text(GOOD % NOTE)
    folder.chmod(0o555)
    for parent in (tmp_path, *tmp_path.parents):
        if parent.stat().st_uid == os.geteuid() and parent.name.startswith("pytest"):
            parent.chmod(0o755)
    if os.geteuid() == 0:  # root may write anywhere: ask somebody else
        child = multiprocessing.get_context("fork").Process(target=_as_nobody, args=(folder / FILE,))
        child.start()
        child.join(60)
        assert child.exitcode == 0
    else:
        messages = restart(folder / FILE)
        CHOICE.skip()
        assert "cannot be saved" in messages[0]
    folder.chmod(0o755)
    assert [path.read_text() for path in folder.iterdir()] == [GOOD % NOTE] * (there == "a file")


def test_a_full_disk_leaves_the_file_as_it_was_and_later_everything_is_written(
    said: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    CHOICE.choose("A")
    before = (tmp_path / FILE).read_text()

    def full(_handle: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        lab01.two_runs.hint()
        lab01.two_runs.hint()
        assert (tmp_path / FILE).read_text() == before
        assert [path.name for path in tmp_path.iterdir()] == [FILE], "nothing half written is left"
        [message] = said
        assert "No space left on device" in message
        assert (report().source, "cannot be saved" in repr(report())) == (message, True)
    lab01.two_runs.hint()
    assert len(read(tmp_path / FILE)) == 4
    assert "No space" not in repr(report())


def test_two_open_tabs_lose_nothing_and_each_hears_of_the_other(tmp_path: Path) -> None:
    tabs: list[tuple[Saved, list[str]]] = []
    for _ in range(2):
        messages: list[str] = []
        tabs.append((Saved(tmp_path / FILE, messages.append), messages))
    for number in range(6):
        tabs[number % 2][0].note("lab01.two_runs", "hint", {"number": number + 1})
    assert len(read(tmp_path / FILE)) == 6
    assert [len(messages) for _saved, messages in tabs] == [1, 1]
    assert "Lab 01 is open in two tabs" in tabs[0][1][0]


def test_another_lab_in_another_tab_is_nothing_to_speak_of(tmp_path: Path) -> None:
    heard: list[str] = []
    for lab in ("lab01.a", "lab02.b", "lab03.c"):
        Saved(tmp_path / FILE, heard.append).note(lab, "skip", {"said": "skipped"})
    assert (len(read(tmp_path / FILE)), heard) == (3, [])


def test_a_file_is_read_again_only_after_somebody_else_wrote_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vnmi_lab.checks import saved

    seen: list[int] = []

    def counted(path: Path) -> Log:
        seen.append(1)
        return read(path)

    monkeypatch.setattr(saved, "read", counted)
    one, other = Saved(tmp_path / FILE), Saved(tmp_path / FILE)
    for _ in range(5):
        one.note("lab01.a", "hint", {"number": 1})
    assert len(seen) == 1
    before = (tmp_path / FILE).stat()
    one.sync()
    assert (tmp_path / FILE).stat() == before, "what has not changed is not written"
    other.note("lab02.b", "skip", {})
    one.note("lab01.c", "skip", {})
    assert len(seen) == 3
    assert {noted.id for noted in read(tmp_path / FILE)} == {"lab01.a", "lab02.b", "lab01.c"}
    (tmp_path / FILE).unlink()
    one.sync()
    assert len(read(tmp_path / FILE)) == 3, "a file that was deleted is written again"


WRITES = """
import sys
from pathlib import Path
from vnmi_lab.checks.saved import Saved
saved = Saved(Path(sys.argv[1]))
for number in range(25):
    saved.note(f"lab01.{sys.argv[2]}-{number}", "skip", {"said": "skipped"})
"""


def test_kernels_that_write_at_the_same_time_lose_nothing(tmp_path: Path) -> None:
    file = tmp_path / FILE
    started = [subprocess.Popen([sys.executable, "-c", WRITES, file, name], stderr=subprocess.PIPE) for name in "abcd"]
    assert [process.wait(60) for process in started] == [0] * 4
    for process in started:
        assert process.stderr
        process.stderr.close()
    assert len(read(file)) == 100


def test_without_locks_a_note_that_was_overwritten_comes_back_with_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "fcntl", None)  # as on Windows and in a browser
    one, other = Saved(tmp_path / FILE), Saved(tmp_path / FILE)
    one.note("lab01.a", "skip", {})
    (tmp_path / FILE).unlink()
    other.note("lab02.b", "skip", {})
    one.note("lab01.c", "skip", {})
    assert {noted.id for noted in read(tmp_path / FILE)} == {"lab01.a", "lab02.b", "lab01.c"}


def test_a_lock_that_nobody_gives_back_stops_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import fcntl

    from vnmi_lab.checks import saved

    monkeypatch.setattr(saved, "TRIES", 2)
    holder = os.open(tmp_path, os.O_RDONLY)
    try:
        fcntl.flock(holder, fcntl.LOCK_EX)
        Saved(tmp_path / FILE).note("lab01.a", "skip", {})
    finally:
        os.close(holder)
    assert len(read(tmp_path / FILE)) == 1


@pytest.mark.parametrize("order", ["ab", "ba", "aab", "abab"])
def test_logs_merge_to_the_same_in_any_order(order: str) -> None:
    def noted(number: int, times: int) -> Noted:
        at = f"2026-01-01T00:00:0{times}.000000Z"
        return Noted("lab01.x", "hint", (("number", number),), "1f", times, at, at)

    parts = {"a": Log([noted(1, 3), noted(2, 1)]), "b": Log([noted(1, 2), noted(3, 1)], "Ada")}
    merged = Log()
    for name in order:
        merged.take(parts[name])
    assert [(n.get("number"), n.times, n.first[18], n.last[18]) for n in merged] == [
        (2, 1, "1", "1"),
        (3, 1, "1", "1"),
        (1, 3, "2", "3"),
    ]
    assert merged.name == "Ada"
    assert parse(dump(merged)) == merged
