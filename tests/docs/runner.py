"""Run the blocks of a page in a temporary folder, and parse the commands that are not run."""

from __future__ import annotations

import os
import re
import shlex
import signal
import socket
import subprocess
import sys
from pathlib import Path
from types import TracebackType

import typer.core
from blocks import Block

import isthmus
from isthmus.cli import root_command, run

ROOT = Path(isthmus.__file__).resolve().parents[1]
# What the pages call their servers; at the time of the test somebody else may listen there.
_PORTS = re.compile(r"\b(8001|8002|8050|9100)\b")
_PATIENCE_S = 120
_SHELL = re.compile(r"[|<>$&;]")


class Page:
    """The folder of one page while its blocks run; a context manager, because services must end."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._services: list[subprocess.Popen[bytes]] = []
        self._ports: dict[str, str] = {}

    def __enter__(self) -> Page:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for service in reversed(self._services):
            service.send_signal(signal.SIGTERM)
            try:
                service.wait(_PATIENCE_S)
            except subprocess.TimeoutExpired:
                service.kill()
                service.wait()
            if service.stdout is not None:
                service.stdout.close()
        if kind is None:
            assert [service.returncode for service in self._services] == [0] * len(self._services)

    def play(self, block: Block) -> None:
        """Run `block`: its commands, its program, or write its file."""
        if block.file is not None:
            (self.folder / block.file).write_text(self._with_ports(block.text), encoding="utf-8")
        elif block.language == "python":
            _check(self._shell([sys.executable, "-c", self._with_ports(block.text)]), 0, block)
        elif block.language == "bash":
            commands = block.commands()
            for number, command in enumerate(commands, start=1):
                expected = block.exit_code if number == len(commands) else 0
                self._command(self._with_ports(command), expected, block)

    def _command(self, command: str, expected: int, block: Block) -> None:
        if block.background:
            self._start(command)
        elif command.startswith("isthmus ") and not _SHELL.search(command):
            before = Path.cwd()
            os.chdir(self.folder)  # pytest's own fixture would keep the first page's folder
            try:
                code = run(shlex.split(command, comments=True)[1:])
            finally:
                os.chdir(before)
            assert code == expected, f"{block.place}: {command}: exit code {code}"
        else:
            _check(self._shell(["bash", "-euo", "pipefail", "-c", command]), expected, block)

    def _start(self, command: str) -> None:
        words = shlex.split(command)
        assert words[0] == "isthmus", f"{command}: only our own services are started"
        service = subprocess.Popen(
            [sys.executable, "-m", "isthmus", *words[1:]],
            cwd=self.folder,
            stdout=subprocess.PIPE,
            env=self._environment(),
        )
        self._services.append(service)
        assert service.stdout is not None
        # A service prints its first line when it is ready; one that ends instead closes the pipe.
        assert service.stdout.readline(), (
            f"{command}: ended with {service.wait(_PATIENCE_S)} before it was ready"
        )

    def _shell(self, words: list[str]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            words,
            cwd=self.folder,
            env=self._environment(),
            capture_output=True,
            text=True,
            check=False,
            timeout=_PATIENCE_S,
        )

    def _environment(self) -> dict[str, str]:
        ours = str(Path(sys.executable).parent)
        return {**os.environ, "PATH": f"{ours}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}

    def _with_ports(self, text: str) -> str:
        return _PORTS.sub(lambda port: self._ports.setdefault(port[0], _free_port()), text)


def parse(command: str, block: Block) -> None:
    """Check a command that is not run: verbs, flags and values by their parser; extras and scripts exist.

    Raises:
        AssertionError: If the command line would refuse it.
    """
    words = shlex.split(command, comments=True)
    for extra in re.findall(r"isthmus\[([\w,]+)\]", command):
        known = _extras()
        assert set(extra.split(",")) <= known, f"{block.place}: no extra {extra!r} among {sorted(known)}"
    if words and words[0].startswith("scripts/"):
        assert os.access(ROOT / words[0], os.X_OK), f"{block.place}: there is no {words[0]}"
    for number, word in enumerate(words):
        if word == "isthmus" and _begins_command(words[:number]):
            _parse_ours(_until_operator(words[number + 1 :]), block, command)


def _begins_command(before: list[str]) -> bool:
    """Say whether what stands before the word lets it be a program: nothing, sudo, settings, an operator."""
    return all(word == "sudo" or "=" in word or word in ("|", "&&", "||", ";", "--") for word in before[-1:])


def _until_operator(words: list[str]) -> list[str]:
    ends = [n for n, word in enumerate(words) if word in ("|", "&&", "||", ";", "&", ">", ">>", "2>")]
    return words[: ends[0]] if ends else words


def _parse_ours(arguments: list[str], block: Block, command: str) -> None:
    """Let the command line read `arguments` without doing what they say."""
    if not arguments:  # `_ISTHMUS_COMPLETE=source_bash isthmus`
        return
    if arguments[:1] == ["--install-completion"]:  # done while parsing: it would change this user's shell
        known = root_command().params
        assert any("--install-completion" in option.opts for option in known), f"{block.place}: {command}"
        return
    meant = typer.core.TyperCommand.invoke
    typer.core.TyperCommand.invoke = lambda self, ctx: None  # type: ignore[method-assign]
    try:
        code = run(arguments)
    finally:
        typer.core.TyperCommand.invoke = meant  # type: ignore[method-assign]
    assert code == 0, f"{block.place}: {command}: the command line refuses it (exit code {code})"
    if arguments[:1] == ["bench"] and arguments[1].islower():
        file = ROOT / "benchmarks" / f"{arguments[1].replace('-', '_')}.py"
        assert file.is_file(), f"{block.place}: there is no benchmark {arguments[1]!r}"


def _extras() -> set[str]:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    part = re.search(r"^\[project\.optional-dependencies\]\n(.*?)^\[", text, re.MULTILINE | re.DOTALL)
    assert part is not None
    return set(re.findall(r"^(\w+) = \[", part[1], re.MULTILINE))


def _check(done: subprocess.CompletedProcess[str], expected: int, block: Block) -> None:
    assert done.returncode == expected, f"{block.place}: exit code {done.returncode}\n{done.stderr[-2000:]}"


def _free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])
