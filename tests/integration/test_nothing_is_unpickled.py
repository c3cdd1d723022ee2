"""Nothing that came from elsewhere is ever unpickled: a pickle runs whatever code it names."""

import ast
from pathlib import Path

import pytest

import isthmus

REPOSITORY = Path(isthmus.__file__).resolve().parents[1]
ROOMS = ("runtime", "partitioner", "models", "device_agents", "isthmus", "benchmarks", "scripts")
BANNED_MODULES = frozenset(
    {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
)


def sources():
    for room in ROOMS:
        for path in sorted((REPOSITORY / room).rglob("*.py")):
            # isthmus/ holds links to the rooms, which are read where they are.
            if not any(parent.is_symlink() for parent in path.parents) and ".venv" not in path.parts:
                yield path


def offences(text):
    """Return (line, what) of everything in `text` that unpickles, or may."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        else:
            names = []
        for name in names:
            if name.split(".")[0] in BANNED_MODULES:
                yield node.lineno, f"import {name}"
        if isinstance(node, ast.Call):
            yield from ((node.lineno, what) for what in _calls(node))


def _calls(node):
    called = ast.unparse(node.func)
    values = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
    if called == "torch.load" and values.get("weights_only") != "True":
        yield "torch.load without weights_only=True"
    if called.endswith("read_pickle") or called.endswith("Unpickler"):
        yield called
    if values.get("allow_pickle", "False") != "False":
        yield f"{called} with allow_pickle"
    if called == "torch.serialization.add_safe_globals":
        yield called


@pytest.mark.parametrize(
    ("text", "offends"),
    [
        ("import pickle", True),
        ("from pickle import loads", True),
        ("import os, marshal", True),
        ("torch.load(path)", True),
        ("torch.load(path, weights_only=flag)", True),
        ("torch.load(path, weights_only=True)", False),
        ("np.load(path, allow_pickle=True)", True),
        ("np.load(path, allow_pickle=False)", False),
        ("np.load(path)", False),
        ("pandas.read_pickle(path)", True),
    ],
)
def test_what_is_looked_for_is_found(text, offends):
    assert bool(list(offences(text))) is offends


def test_nothing_is_unpickled():
    files = list(sources())
    assert len(files) > 200, "the rooms were not found"
    found = [
        f"{path.relative_to(REPOSITORY)}:{line}: {what}"
        for path in files
        for line, what in offences(path.read_text(encoding="utf-8"))
    ]
    assert found == []
