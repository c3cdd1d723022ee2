"""What every command does on a terminal, and what it leaves away where there is none."""

from __future__ import annotations

import io
import os
import pty
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from types import ModuleType

import pytest
from rich.console import Console

import isthmus
import isthmus.cli
from isthmus.cli import VERBS, _progress, run
from isthmus.cli._common import console, errors

COLOUR = re.compile(r"\x1b\[(?:\d+;)*(?:[34][0-8]|9[0-7])[;m]")


@pytest.fixture
def noisy_doctor(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make `isthmus doctor` write a note, an error line, and a result."""

    def command() -> None:
        """Talk."""
        console.print("a note")
        errors.print("an error")
        sys.stdout.write("a result\n")

    module = ModuleType("isthmus.cli.doctor")
    module.command = command  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "isthmus.cli.doctor", module)
    monkeypatch.setattr(isthmus.cli, "doctor", module, raising=False)


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """Let progress believe that its console is a terminal; return what is written there."""
    written = io.StringIO()
    fake = Console(file=written, force_terminal=True, width=80)
    monkeypatch.setattr(_progress, "console", fake)
    return written


def on_terminal(*arguments: str, **environment: str) -> str:
    """Return what `isthmus` writes to a pseudo terminal of 80 columns."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "isthmus", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=theirs,
        env={name: value for name, value in os.environ.items() if name != "NO_COLOR"}
        | {"TERM": "xterm-256color", "COLUMNS": "80"}
        | environment,
    )
    os.close(theirs)
    said = b""
    while chunk := _read(ours):
        said += chunk
    os.close(ours)
    process.wait(60)
    return said.decode()


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 4096)
    except OSError:  # Linux's way to say that the other end of a pseudo terminal is closed
        return b""


def test_quiet_leaves_results_and_errors_alone(
    noisy_doctor: None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["doctor"]) == 0
    assert "a note" in capsys.readouterr().err
    for flag in ("--quiet", "-q"):
        assert run(["doctor", flag]) == 0
        told = capsys.readouterr()
        assert told.out == "a result\n"
        assert told.err == "an error\n"
    assert run(["doctor"]) == 0
    assert "a note" in capsys.readouterr().err, "one quiet command must not silence the next"


@pytest.mark.parametrize("verb", VERBS)
def test_every_command_takes_quiet_and_h_and_its_help_fits_80_columns(
    verb: str, capsys: pytest.CaptureFixture[str]
) -> None:
    module = __import__(f"isthmus.cli.{verb}", fromlist=["command"])
    infos = module.app.registered_commands if hasattr(module, "app") else []
    for words in [[], *([info.name] for info in infos if len(infos) > 1)]:
        assert run([verb, *words, "-h"]) == 0
        told = capsys.readouterr().out
        if words or len(infos) <= 1:
            assert "-q, --quiet" in told
        assert max(len(line) for line in told.splitlines()) <= 80


def test_progress_is_shown_on_a_terminal_and_gone_afterwards(terminal: io.StringIO) -> None:
    with _progress.progress("weighing [1] cuts") as show:
        show(share=0.5)
        show("timing")
    told = terminal.getvalue()
    assert "timing" in told
    assert "\x1b[2K" in told, "the line is erased"


def test_progress_is_silent_without_a_terminal_and_when_quiet(
    terminal: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    _progress.console.quiet = True
    with _progress.progress("weighing") as show:
        show("timing", 0.5)
    assert terminal.getvalue() == ""
    pipe = io.StringIO()
    monkeypatch.setattr(_progress, "console", Console(file=pipe))
    with _progress.progress("weighing") as show:
        show("timing", 0.5)
    assert pipe.getvalue() == ""


def test_an_error_leaves_no_progress_behind(terminal: io.StringIO) -> None:
    with pytest.raises(ZeroDivisionError), _progress.progress("weighing"):
        raise ZeroDivisionError
    with _progress.progress("weighing again"):
        pass  # a display that was left running would refuse a second one


def test_colours_only_where_they_are_wanted() -> None:
    coloured = on_terminal("report", "no-such-run")
    assert COLOUR.search(coloured)
    plain = on_terminal("report", "no-such-run", NO_COLOR="1")
    assert "error: no-such-run" in plain
    assert not COLOUR.search(plain)


def test_the_version_names_what_a_bug_report_needs(capsys: pytest.CaptureFixture[str]) -> None:
    import numpy
    import onnxruntime

    assert run(["--version"]) == 0
    told = capsys.readouterr()
    first, *rest = told.out.splitlines()
    assert first == f"isthmus {isthmus.__version__}"
    rows = dict(line.split(maxsplit=1) for line in rest if not line.startswith("entropy coder"))
    assert rows["python"].startswith(".".join(map(str, sys.version_info[:3])))
    assert rows["numpy"] == numpy.__version__
    assert rows["onnxruntime"].startswith(onnxruntime.__version__)
    assert "CPU" in rows["onnxruntime"]
    assert {"platform", "grpcio", "protobuf", "msgspec", "lz4"} <= rows.keys()
    assert any(line.split()[-1] in ("C", "numpy") for line in rest if line.startswith("entropy coder"))


def test_the_version_imports_neither_torch_nor_onnx() -> None:
    probe = (
        "import sys; from isthmus.cli._version import version_lines; version_lines();"
        "print(*(name for name in ('torch', 'onnx', 'matplotlib', 'grpc') if name in sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", probe], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == ""


def test_a_library_that_cannot_be_loaded_is_said_not_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    from isthmus.cli._version import version_lines

    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    (line,) = (line for line in version_lines() if line.startswith("onnxruntime"))
    assert "cannot be loaded" in line


@pytest.fixture
def completes(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., set[str]]:
    """Return `complete(*words)`: what bash offers for the last of them."""

    def complete(*words: str) -> set[str]:
        monkeypatch.setenv("_ISTHMUS_COMPLETE", "complete_bash")
        monkeypatch.setenv("COMP_WORDS", " ".join(["isthmus", *words]))
        monkeypatch.setenv("COMP_CWORD", str(len(words)))
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            run([])
        assert stop.value.code == 0
        return set(capsys.readouterr().out.split())

    return complete


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["pa"], {"partition"}),
        (["agent", ""], {"run", "status", "doctor", "bench-link", "install-service"}),
        (["agent", "--poli"], {"--policy"}),
        (["agent", "run", "--poli"], {"--policy"}),
        (["export", "--heads", ""], {"fp32", "int8", "auto"}),
        (["report", "--qui"], {"--quiet"}),
    ],
)
def test_completion_knows_verbs_commands_flags_and_choices(
    words: list[str], offered: set[str], completes: Callable[..., set[str]]
) -> None:
    assert completes(*words) >= offered


def test_completing_an_empty_word_offers_every_verb(completes: Callable[..., set[str]]) -> None:
    assert completes("") == set(VERBS)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_completion_script_for_each_shell(
    shell: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("_ISTHMUS_COMPLETE", f"source_{shell}")
    with pytest.raises(SystemExit) as stop:
        run([])
    assert stop.value.code == 0
    script = capsys.readouterr().out
    assert "_ISTHMUS_COMPLETE=complete_" + shell in script
    assert "isthmus" in script
    if shutil.which(shell) is not None:
        checked = subprocess.run([shell, "-n"], input=script, text=True, check=False, timeout=60)
        assert checked.returncode == 0


def test_the_script_completes_in_a_real_bash() -> None:
    ours = os.path.dirname(sys.executable)
    script = subprocess.run(
        [
            "bash",
            "--norc",
            "-c",
            'eval "$(_ISTHMUS_COMPLETE=source_bash isthmus)"; '
            'COMP_WORDS=(isthmus simu); COMP_CWORD=1; _isthmus_completion isthmus; echo "${COMPREPLY[@]}"',
        ],
        env={**os.environ, "PATH": f"{ours}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert script.stdout.strip() == "simulate"


def test_root_offers_to_install_completion(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--help"]) == 0
    told = capsys.readouterr().out
    assert "--install-completion" in told
    assert "--show-completion" in told
