import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from isthmus.cli import run

pytest.importorskip("matplotlib", reason="reports need the extra 'plot'")


@pytest.fixture
def run_folder(synthetic_run: Any, tmp_path: Path) -> Path:
    return Path(shutil.copytree(synthetic_run.folder, tmp_path / "run"))


def test_the_page_lies_beside_the_log_and_its_path_is_the_result(
    run_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["report", str(run_folder)]) == 0
    page = run_folder / "report.html"
    assert page.read_text().startswith("<!DOCTYPE html>")
    told = capsys.readouterr()
    assert told.out.strip() == str(page)
    assert "Every one of the 1200 captured frames ended exactly once." in " ".join(told.err.split())


def test_json_is_one_object_with_the_figures_of_every_run(
    run_folder: Path, synthetic_run: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "page.html"
    assert run(["report", str(run_folder), "--out", str(page), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["report"] == str(page)
    assert page.is_file()
    (figures,) = result["runs"]
    assert figures["accounting"]["outcomes"] == synthetic_run.outcomes
    assert figures["accounting"]["balanced"] is True
    assert len([use for use in figures["points"] if use["point"]]) >= 3


def test_what_is_missing_is_told_on_the_terminal(
    run_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = run_folder / "events.jsonl"
    lines = log.read_text().splitlines()[:20]
    log.write_text("\n".join(lines) + '\n{"type":"fra')
    (run_folder / "link.jsonl").unlink()
    assert run(["report", str(run_folder)]) == 0
    told = " ".join(capsys.readouterr().err.split())
    assert "The log stops without an end event" in told
    assert "note: No log of an emulated link" in told


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["{tmp}/gone"], 3, "gone: no such run folder or event log"),
        (["{tmp}"], 3, "events.jsonl: no such file"),
        (["{run}/link.jsonl"], 3, "holds no run"),
        (["{run}", "--bundle", "{tmp}/gone"], 4, "gone: no such bundle directory"),
        (["{run}", "--out", "{tmp}/gone/report.html"], 3, "its folder does not exist"),
        (["{run}/plan.json"], 4, "plan.json:1: not an event"),
        (
            ["{run}", "--format", "pdf"],
            3,
            "--format pdf: no such format; choose one of html, md, json, csv, png",
        ),
        (["{run}", "--trace", "{tmp}/gone.csv"], 3, "gone.csv"),
        ([], 2, "Missing argument"),
    ],
)
def test_errors_are_one_line_with_their_exit_code(
    run_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    arguments: list[str], code: int, message: str,
) -> None:  # fmt: skip
    (run_folder / "plan.json").write_text('{"choice": {}}\n{}\n')
    filled = [argument.format(tmp=tmp_path, run=run_folder) for argument in arguments]
    assert run(["report", *filled]) == code
    told = capsys.readouterr()
    assert message in told.err
    assert "Traceback" not in told.err
    assert told.out == ""
    if code > 2:
        assert told.err.count("\n") == 1


def test_without_matplotlib_the_extra_is_named(
    run_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert run(["report", str(run_folder)]) == 6
    assert "pip install 'isthmus[plot]'" in capsys.readouterr().err
    assert not (run_folder / "report.html").exists()


@pytest.mark.parametrize(
    ("form", "begins"),
    [
        ("md", "# Isthmus run: run"),
        ("json", '{\n  "runs"'),
        ("csv", "name,policy"),
        ("html", "<!DOCTYPE html>"),
    ],
)
def test_every_format_has_its_own_file(
    run_folder: Path, capsys: pytest.CaptureFixture[str], form: str, begins: str
) -> None:
    assert run(["report", str(run_folder), "--format", form]) == 0
    file = run_folder / f"report.{form}"
    assert capsys.readouterr().out.strip() == str(file)
    assert file.read_text().startswith(begins)


def test_the_link_of_a_real_run_can_be_given_as_a_trace(
    run_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (run_folder / "link.jsonl").unlink()
    trace = "step:30kB@10s,4kB@35s"
    assert run(["report", str(run_folder), "--trace", trace, "--format", "json", "--json"]) == 0
    (figures,) = json.loads(capsys.readouterr().out)["runs"]
    assert figures["regret"]["link"] == f"trace {trace}"
    assert figures["regret"]["frames"] == 1200
