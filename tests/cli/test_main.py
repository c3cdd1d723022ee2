"""The command line as a whole: exit codes, errors as one line, verbs that exist, imports that stay light."""

import inspect
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from types import ModuleType

import pytest

import isthmus.cli
from isthmus.cli import VERBS, run
from isthmus.runtime import errors
from isthmus.runtime.errors import InputError, IsthmusError, MissingExtraError

HEAVY = ("torch", "onnx", "onnxruntime", "sklearn", "matplotlib", "grpc")


def every_error() -> Iterator[type[IsthmusError]]:
    waiting: list[type[IsthmusError]] = [IsthmusError]
    while waiting:
        waiting += (cls := waiting.pop()).__subclasses__()
        if cls.__module__ == errors.__name__:
            yield cls


def documented_codes() -> dict[str, int]:
    """Return the exit code of every class as the docstring's tree says; a branch inherits its trunk's."""
    assert errors.__doc__ is not None
    codes: dict[str, int] = {}
    trunk: list[tuple[int, int]] = []
    for line in errors.__doc__.splitlines():
        match = re.match(r"^(?P<branch>[│├└─ ]*)(?P<name>[A-Z]\w+Error)(?: \((?P<code>\d+)\))?", line)
        if match is None:
            continue
        depth = len(match["branch"])
        trunk = [(above, code) for above, code in trunk if above < depth]
        code = int(match["code"]) if match["code"] else trunk[-1][1] if trunk else 1
        trunk.append((depth, code))
        codes[match["name"]] = code
    return codes


@pytest.fixture
def verb_that(monkeypatch: pytest.MonkeyPatch) -> Callable[[BaseException], None]:
    """Return `install(error)`: from then on `isthmus doctor` raises that error."""

    def install(error: BaseException) -> None:
        def command() -> None:
            """Raise."""
            raise error

        module = ModuleType("isthmus.cli.doctor")
        module.command = command  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "isthmus.cli.doctor", module)
        monkeypatch.setattr(isthmus.cli, "doctor", module, raising=False)

    return install


def test_every_error_class_has_its_exit_code_in_the_documented_tree() -> None:
    assert {cls.__name__: cls.exit_code for cls in every_error()} == documented_codes()


def test_the_reserved_exit_codes_are_documented_and_not_given_away() -> None:
    assert errors.__doc__ is not None
    assert "1 is our own bug" in errors.__doc__
    assert "2 a wrong flag" in errors.__doc__
    assert "130 Ctrl-C" in errors.__doc__
    assert {cls.exit_code for cls in every_error() if cls is not IsthmusError} & {0, 1, 2, 130} == set()


@pytest.mark.parametrize("cls", list(every_error()), ids=lambda cls: cls.__name__)
def test_a_deliberate_error_is_one_line_and_its_exit_code(
    cls: type[IsthmusError],
    verb_that: Callable[[BaseException], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    long = "x" * 300
    error = (
        MissingExtraError("a report", "plot")
        if cls is MissingExtraError
        else cls(f"a\nb.json [bold] :x: {long}")
    )
    verb_that(error)
    assert run(["doctor"]) == cls.exit_code
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err == "error: " + " ".join(str(error).split()) + "\n"


def test_a_missing_library_names_the_extra_that_brings_it(
    verb_that: Callable[[BaseException], None], capsys: pytest.CaptureFixture[str]
) -> None:
    verb_that(ModuleNotFoundError("No module named 'torch.nn'", name="torch.nn"))
    assert run(["doctor"]) == 6
    assert "pip install 'isthmus[train]'" in capsys.readouterr().err


def test_our_own_bugs_keep_their_traceback(verb_that: Callable[[BaseException], None]) -> None:
    verb_that(ModuleNotFoundError("No module named 'isthmus.nope'", name="isthmus.nope"))
    with pytest.raises(ModuleNotFoundError):
        run(["doctor"])
    verb_that(ZeroDivisionError("a bug"))
    with pytest.raises(ZeroDivisionError):
        run(["doctor"])


def test_interrupting_ends_with_130(
    verb_that: Callable[[BaseException], None], capsys: pytest.CaptureFixture[str]
) -> None:
    verb_that(KeyboardInterrupt())
    assert run(["doctor"]) == 130
    assert "Traceback" not in capsys.readouterr().err


def test_main_exits_the_process_with_the_code(verb_that: Callable[[BaseException], None]) -> None:
    verb_that(InputError("a.npz: no such file"))
    with pytest.raises(SystemExit) as stop:
        isthmus.cli.main(["doctor"])
    assert stop.value.code == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["fly"], "No such command 'fly'"),
        (["bench", "--wings"], "No such option: --wings"),
        (["report"], "Missing argument"),
        (["--wings"], "No such option: --wings"),
    ],
)
def test_a_wrong_flag_or_verb_is_2(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(arguments) == 2
    told = capsys.readouterr()
    assert message in told.err
    assert "Traceback" not in told.err
    assert told.out == ""


def test_help_lists_every_verb_and_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--help"]) == 0
    told = " ".join(capsys.readouterr().out.split())
    for verb, line in VERBS.items():
        assert f"{verb} {line}" in told


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_listed_has_a_command_with_help_and_json(
    verb: str, capsys: pytest.CaptureFixture[str]
) -> None:
    module = __import__(f"isthmus.cli.{verb}", fromlist=["command"])
    assert run([verb, "--help"]) == 0
    commands = {(): module.command} if hasattr(module, "command") else {}
    if hasattr(module, "app"):
        commands |= {(info.name,): info.callback for info in module.app.registered_commands}
    assert commands
    for words, command in commands.items():
        assert inspect.getdoc(command), "the docstring is the help"
        capsys.readouterr()
        assert run([verb, *words, "--help"]) == 0
        assert "--json" in capsys.readouterr().out


@pytest.mark.parametrize(
    "statement", ["import isthmus", "import isthmus.cli", "from isthmus.cli import report, bench"]
)
def test_imports_stay_light(statement: str) -> None:
    probe = f"{statement}; import sys; print(*(name for name in {HEAVY!r} if name in sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", probe], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == ""


def test_a_real_process_ends_with_one_line_and_the_code() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "isthmus", "report", "no-such-run"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 3
    assert done.stdout == ""
    assert done.stderr.startswith("error: no-such-run: ")
    assert done.stderr.count("\n") == 1
