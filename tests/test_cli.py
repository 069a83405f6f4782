"""The command line: what it prints, and one line with exit code 2 for bad input."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from vnmi_lab import __version__, cli, labs
from vnmi_lab.export import FORMATS, write
from vnmi_lab.library import find
from vnmi_lab.trace import Trace

LAB_FILES = {
    "01_bare_metal.ipynb": "{}",
    "02_injection.ipynb": '{"a": 2}',
    "pictures/stack.svg": "<svg/>",
}


@pytest.fixture
def shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Labs as a wheel ships them, and a current folder of its own."""
    folder = tmp_path / "installed" / "_labs"
    for name, text in LAB_FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    monkeypatch.setattr(labs, "_SHIPPED", folder)
    (tmp_path / "home").mkdir()
    monkeypatch.chdir(tmp_path / "home")
    return folder


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The commands that would have been started."""
    commands: list[list[str]] = []

    def run(command: list[str], *, check: bool) -> subprocess.CompletedProcess[str]:
        assert not check
        commands.append(command)
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(subprocess, "run", run)
    return commands


def bad(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """The one line on stderr that these words get."""
    with pytest.raises(SystemExit) as end:
        cli.main(words)
    assert end.value.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    return err.strip()


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        cli.main(["--version"])
    assert end.value.code == 0
    assert capsys.readouterr().out == f"vnmi-lab {__version__}\n"


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([]) == 2
    assert all(f"    {name} " in capsys.readouterr().out for name in ["open"])
    with pytest.raises(SystemExit) as end:
        cli.main(["--help"])
    assert end.value.code == 0
    shown = capsys.readouterr().out
    assert all(
        re.search(rf"^    {name}\s", shown, re.MULTILINE) and command.help in " ".join(shown.split())
        for name, command in cli.COMMANDS.items()
    )


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_every_command_has_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        cli.main([command, "--help"])
    assert end.value.code == 0
    assert f"usage: vnmi-lab {command}" in capsys.readouterr().out


BAD = [  # words, the line
    (["dcotor"], "vnmi-lab: no command 'dcotor': did you mean 'doctor'? (see vnmi-lab --help)"),
    (["doctor", "--fast"], "vnmi-lab: doctor does not know '--fast' (see vnmi-lab --help)"),
    (["open", "7"], "vnmi-lab: no lab '7': there are 01_bare_metal, 02_injection (see vnmi-lab --help)"),
    (["open", "02_injektion"], "vnmi-lab: no lab '02_injektion': did you mean '02_injection'? (see vnmi-lab --help)"),
    (
        ["run", "one", "-o", ""],
        "vnmi-lab run: argument -o/--output: a file, a folder or - must be named (see vnmi-lab run --help)",
    ),
    (["open", "0"], "vnmi-lab: no lab '0': there are 01_bare_metal, 02_injection (see vnmi-lab --help)"),
]


@pytest.mark.usefixtures("shipped", "started")
@pytest.mark.parametrize(("words", "line"), BAD, ids=[" ".join(words) for words, _ in BAD])
def test_bad_input_gets_one_line(words: list[str], line: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        cli.main(words)
    assert end.value.code == 2
    assert capsys.readouterr().err == line + "\n"


def test_a_word_like_no_command_gets_them_all(capsys: pytest.CaptureFixture[str]) -> None:
    assert f"no command 'zzz': there are {', '.join(cli.COMMANDS)} " in bad(capsys, "zzz")


def test_open_copies_the_labs_once_and_keeps_what_the_learner_wrote(
    shipped: Path, started: list[list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    work = Path(labs.WORK_FOLDER)
    assert cli.main(["open"]) == 0
    assert capsys.readouterr().out == "copied 3 files of the labs into vnmi-labs\n"
    assert {str(path.relative_to(work)) for path in work.rglob("*.*")} == set(LAB_FILES)

    (work / "01_bare_metal.ipynb").write_text("mine")
    (work / "02_injection.ipynb").unlink()
    assert cli.main(["open", "2", "--no-browser"]) == 0
    assert capsys.readouterr().out == (
        "copied 1 files of the labs into vnmi-labs\n"
        f"kept your vnmi-labs/01_bare_metal.ipynb: it differs from the one in vnmi_lab {__version__}\n"
    )
    assert (work / "01_bare_metal.ipynb").read_text() == "mine"
    assert (shipped / "01_bare_metal.ipynb").read_text() == "{}"

    folder, lab = started
    assert folder[:4] == [sys.executable, "-m", "jupyterlab", f"--ServerApp.root_dir={work.resolve()}"]
    assert {"--no-browser", str((work / "02_injection.ipynb").resolve())} <= set(lab)


def test_open_writes_through_no_link(shipped: Path, started: list[list[str]]) -> None:
    work, elsewhere = Path(labs.WORK_FOLDER), Path("elsewhere.ipynb")
    work.mkdir()
    (work / "01_bare_metal.ipynb").symlink_to(elsewhere.resolve())
    assert cli.main(["open"]) == 0
    assert started
    assert not elsewhere.exists()
    assert Path("01_bare_metal.ipynb") in labs.copy(shipped, work).kept


def test_a_folder_that_is_a_file_gets_one_line(shipped: Path, capsys: pytest.CaptureFixture[str]) -> None:
    del shipped
    Path("notes").write_text("")
    assert bad(capsys, "open", "--folder", "notes").startswith("vnmi-lab: notes")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device that is always full")
def test_a_full_disk_is_reported_with_the_file(capsys: pytest.CaptureFixture[str]) -> None:
    assert bad(capsys, "run", "one", "-o", "/dev/full").startswith("vnmi-lab: /dev/full: No space left on device")


def test_a_checkout_opens_its_own_labs(
    tmp_path: Path, started: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "labs").mkdir()
    (tmp_path / "pyproject.toml").touch()
    monkeypatch.setattr(labs, "_CHECKOUT", tmp_path / "labs")
    monkeypatch.setattr(labs, "_SHIPPED", tmp_path / "none")
    assert cli.main(["open"]) == 0
    assert f"--ServerApp.root_dir={tmp_path / 'labs'}" in started[0]


def test_without_labs_one_line_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(labs, "_CHECKOUT", tmp_path / "none")
    monkeypatch.setattr(labs, "_SHIPPED", tmp_path / "none")
    assert "this installation has no labs" in bad(capsys, "open")


REFERENCE = Path(__file__).parent / "reference"


def test_conform_replays_a_recording(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["conform", str(REFERENCE / "isa_ruled.jsonl")]) == 0
    assert capsys.readouterr().out == "12 passed, 0 failed\n"


CONFORM_BAD = [  # what is in the file (None: there is no file), what the line says of it
    (None, "no.jsonl: No such file or directory"),
    (b"{", "no.jsonl: line 1: "),
    (b"[]\n", "no.jsonl: line 1: "),
    (b"\xef\xbb\xbf[]\n", "no.jsonl: line 1: a case must be an object, not list"),
    (b"\n" + b"[" * 100_000, "no.jsonl: line 2: lists or objects are nested too deeply"),
    (b"\xff\xfe", "no.jsonl: not UTF-8 text: byte 0xff"),
]


@pytest.mark.parametrize(("text", "start"), CONFORM_BAD)
def test_conform_says_what_is_wrong_with_a_file(
    text: bytes | None,
    start: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    if text is not None:
        Path("no.jsonl").write_bytes(text)
    assert cli.main(["conform", "no.jsonl"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(start)
    assert err.count("\n") == 1


def test_run_lists_a_name_and_a_sentence_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["run", "--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split(maxsplit=1) == ["one", "One NMI while the guest works."]
    assert all(line.endswith(".") for line in lines)


def test_run_prints_a_line_a_step(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert cli.main(["run", "in-handler", "--policy", "bare"]) == 0
    out = capsys.readouterr().out
    assert out.splitlines()[2].split()[:4] == ["2", "bare", "NMI", "arrives"]
    assert cli.main(["run", "v1~plain~bare~nmi@work~nmi@body", "-o", str(tmp_path / "run.txt")]) == 0
    assert capsys.readouterr().out == ""
    assert (tmp_path / "run.txt").read_text(encoding="utf-8") == out


def test_run_under_kvm_names_its_functions(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["run", "one", "--policy", "legacy"]) == 0
    out = capsys.readouterr().out
    assert "#VMEXIT IRET (74h)" in out
    assert "iret_interception" in out


def test_run_gives_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["run", "one", "--format", "json"]) == 0
    run = json.loads(capsys.readouterr().out)
    assert run["scenario"] == "v1~plain~vnmi~nmi@work"
    assert run["steps"][0]["index"] == 0
    assert {"index", "kind", "world", "rip", "text", "changes", "state"} <= run["steps"][0].keys()


@pytest.mark.parametrize("key", FORMATS)
def test_run_writes_every_format_to_the_terminal_a_file_or_a_folder(
    key: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    scenario = find("one")
    made = write(Trace(scenario.machine(), str(scenario)), key)
    file = tmp_path / "run"
    file.write_text("there already")
    for words in ([], ["-o", "-"], ["-o", str(file)], ["-o", str(tmp_path)]):
        assert cli.main(["run", "one", "--format", key, *words]) == 0
    assert capsys.readouterr().out == f"{made.text}{made.text}{tmp_path / made.name}\n"
    assert file.read_bytes() == (tmp_path / made.name).read_bytes() == made.text.encode()


def test_help_names_every_format(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["run", "--help"])
    assert set(FORMATS) <= set(re.findall(r"\w+", capsys.readouterr().out))


def test_what_cannot_be_written_gets_one_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    missing = tmp_path / "missing" / "run.vcd"
    assert f"{missing}: No such file or directory" in bad(capsys, "run", "one", "--format", "vcd", "-o", str(missing))


SCENARIO_BAD = [  # words, what the line says
    (["run", "in-handlr"], "the library has no scenario 'in-handlr'; did you mean 'in-handler'?"),
    (["run", "v1~plain~vnmi~nmi@wrok"], "character 15, 'nmi@wrok': the guest has no label 'wrok'"),
    (["run", "one", "--policy", "vnm"], "vnmi_lab has no machine 'vnm'; did you mean 'vnmi'?"),
    (["run"], "run needs a scenario; run --list names them"),
    (["run", "one", "--format", "perfeto"], "vnmi_lab.export has no format 'perfeto'; did you mean 'perfetto'?"),
    (["compare", "one", "--policies", "legacy,xen"], "vnmi_lab has no machine 'xen'; did you mean 'xen-like'?"),
    (["compare", "won"], "the library has no scenario 'won'"),
]


@pytest.mark.parametrize(("words", "said"), SCENARIO_BAD)
def test_a_wrong_scenario_or_policy_gets_one_line(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert said in bad(capsys, *words)


def test_compare_prints_a_table_or_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["compare", "in-handler"]) == 0
    names = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert names == ["machine", "bare", "legacy", "vnmi"]
    assert cli.main(["compare", "in-handler", "--policies", "legacy", "--json"]) == 0
    table = json.loads(capsys.readouterr().out)
    assert [(row["machine"], row["iret"], row["db"]) for row in table["rows"]] == [("bare", 0, 0), ("legacy", 2, 1)]


def test_diagram_draws_text_or_a_picture(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert cli.main(["diagram"]) == 0
    assert "IRET completes" in capsys.readouterr().out
    assert cli.main(["diagram", "--format", "svg", "-o", str(tmp_path / "nmi.svg")]) == 0
    assert capsys.readouterr().out == ""
    assert (tmp_path / "nmi.svg").read_text(encoding="utf-8").startswith("<svg ")


def test_bench_prints_every_figure(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from vnmi_lab import bench

    figures = [bench.Figure(name="steps", value=2.0, unit="x", target="at least 1.5x", met=True)]
    monkeypatch.setattr(bench, "measure", lambda: iter(figures))
    assert cli.main(["bench", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["figures"][0]["name"] == "steps"
