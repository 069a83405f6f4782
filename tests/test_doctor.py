"""The doctor finds what is missing and says how to mend it, at once and without importing anything."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest

import vnmi_lab
from vnmi_lab import cli
from vnmi_lab.doctor import OLDEST, OLDEST_PYTHON, Line, Report, State, doctor, find_browser

PROJECT = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text())["project"]


def line(name: str) -> Line:
    return next(line for line in doctor().lines if line.name == name)


def missing(name: str) -> str:
    raise PackageNotFoundError(name)


def test_the_oldest_versions_are_those_of_the_package_metadata() -> None:
    wanted = {
        name: f"{name}>={'.'.join(map(str, oldest))},<{5 if name == 'jupyterlab' else 9 if name == 'ipywidgets' else 1}"
        for name, oldest in OLDEST.items()
    }
    assert set(wanted.values()) <= set(PROJECT["dependencies"])
    assert PROJECT["requires-python"] == f">={'.'.join(map(str, OLDEST_PYTHON))}"


def test_every_line_of_a_working_installation_is_fine_or_optional() -> None:
    assert [str(line) for line in doctor().lines if line.state is State.PROBLEM] == []


def test_a_missing_package_is_a_problem_with_the_command_that_mends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vnmi_lab.doctor.version", missing)
    assert line("anywidget") == Line(
        "anywidget", State.PROBLEM, "not installed", f'"{sys.executable}" -m pip install "anywidget>=0.9.13"'
    )
    assert line("unicorn").state is State.OPTIONAL


def test_an_old_package_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vnmi_lab.doctor.version", lambda _: "3.6.1")
    assert line("jupyterlab").found == "3.6.1, too old"


def test_a_package_without_its_front_end_is_a_problem(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    assert line("ipywidgets").state is State.PROBLEM
    assert "front end is missing" in line("ipywidgets").found


def test_an_old_python_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 10, 13))
    assert line("Python").state is State.PROBLEM


PLACES = (
    *("COLAB_RELEASE_TAG", "VSCODE_PID", "VOILA_REQUEST_URL", "BINDER_SERVICE_HOST", "JPY_SESSION_NAME"),
    "JPY_PARENT_PID",
)


@pytest.fixture
def nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in PLACES:
        monkeypatch.delenv(name, raising=False)


@pytest.mark.usefixtures("nowhere")
def test_a_terminal_is_told_what_it_shows_and_where_more_is_seen() -> None:
    assert line("mode") == Line("mode", State.OK, line("mode").found, "for timelines that play: vnmi-lab open")
    assert line("mode").found.startswith("pictures: a terminal shows text")


@pytest.mark.usefixtures("nowhere")
@pytest.mark.parametrize(
    ("variable", "found", "remedy"),
    [
        ("COLAB_RELEASE_TAG", "Colab: live: timelines that play, but not tried", "enable_custom_widget_manager()"),
        ("VSCODE_PID", "VS Code: live: timelines that play, but not tried", "jupyter.widgetScriptSources"),
        ("VOILA_REQUEST_URL", "Voila: live", ""),
        ("JPY_SESSION_NAME", "JupyterLab or Notebook 7: live", ""),
    ],
)
def test_the_front_end_is_known_by_what_it_leaves(
    variable: str, found: str, remedy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, "1")
    assert line("mode").found.startswith(found)
    assert remedy in line("mode").remedy
    assert bool(remedy) is bool(line("mode").remedy)


def serve_from(python: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pretend that a server started this kernel with that Python."""
    (folder / "proc" / "77").mkdir(parents=True)
    (folder / "proc" / "77" / "cmdline").write_bytes(f"{python}\0-m\0jupyterlab\0".encode())
    monkeypatch.setattr("vnmi_lab.doctor._PROCESSES", str(folder / "proc"))
    monkeypatch.setenv("JPY_SESSION_NAME", "lab.ipynb")
    monkeypatch.setenv("JPY_PARENT_PID", "77")
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(folder / "data"))


@pytest.mark.usefixtures("nowhere")
def test_a_server_elsewhere_without_the_front_ends_is_a_problem(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "other"
    serve_from(other / "bin" / "python3", tmp_path, monkeypatch)
    assert line("mode").state is State.PROBLEM
    assert f"runs in {other}, which lacks the front end of ipywidgets and anywidget" in line("mode").found
    assert line("mode").remedy == (
        f'"{other}/bin/python" -m pip install "ipywidgets>=8.1" "anywidget>=0.9.13", then start the server again'
    )
    for end in ("@jupyter-widgets/jupyterlab-manager", "anywidget"):
        (other / "share/jupyter/labextensions" / end).mkdir(parents=True)
    assert line("mode").state is State.OK


@pytest.mark.usefixtures("nowhere")
def test_a_server_of_this_installation_or_one_that_cannot_be_asked_is_no_problem(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve_from(Path(sys.prefix) / "bin" / "python", tmp_path, monkeypatch)
    assert line("mode").state is State.OK
    for pid in ("78", "../77", ""):
        monkeypatch.setenv("JPY_PARENT_PID", pid)
        assert line("mode").state is State.OK


def test_a_browser_is_only_for_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VNMI_CHROMIUM", "no-such-browser")
    assert find_browser() is None
    assert line("browser for tests").state is State.OPTIONAL
    monkeypatch.setenv("VNMI_CHROMIUM", sys.executable)
    assert find_browser() == sys.executable


def test_the_report_reads_well_as_text_and_is_escaped_as_html() -> None:
    report = Report((Line("labs", State.PROBLEM, "<none>", "look & install"),))
    assert str(report) == (
        "problem    labs: <none>\n            -> look & install\n\n1 problem to mend before the labs will work."
    )
    assert repr(report) == str(report)
    page = report._repr_html_()
    assert "&lt;none&gt;" in page
    assert "look &amp; install" in page
    assert "problem" in page


def test_the_exit_code_says_whether_the_labs_will_work(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["doctor"]) == 0
    assert "Everything the labs need is here." in capsys.readouterr().out
    monkeypatch.setattr("vnmi_lab.doctor.version", missing)
    assert cli.main(["doctor"]) == 1


def test_the_package_has_the_doctor_whatever_was_imported_first() -> None:
    assert callable(vnmi_lab.doctor)
    for first in ("import vnmi_lab", "import vnmi_lab, vnmi_lab.doctor", "import vnmi_lab, vnmi_lab.cli"):
        code = f"{first}; vnmi_lab.doctor(); print(vnmi_lab.doctor().ok)"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert done.stdout == "True\n"


def test_it_answers_without_loading_what_it_looks_for() -> None:
    code = "import sys, vnmi_lab; vnmi_lab.doctor(); print(*({'jupyterlab', 'ipywidgets', 'numpy'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "\n"


def test_in_a_browser_no_server_is_missed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def installed_there(name: str) -> str:
        if name == "jupyterlab":
            raise PackageNotFoundError(name)
        return "99.0"

    monkeypatch.setattr("vnmi_lab.doctor.version", installed_there)
    monkeypatch.setattr(sys, "prefix", str(tmp_path))  # the front ends are the page's own there
    assert not doctor().ok
    monkeypatch.setattr(sys, "platform", "emscripten")
    report = doctor()
    assert report.verdict == "Everything the labs need is here."
    assert [one.name for one in report.lines] == ["Python", "ipywidgets", "anywidget", "mode", "labs"]
    assert "JupyterLite" in str(report)
