"""Import a Python file of the user's as if it were run: what lies beside it can be imported by it.

Its own `models/` or `runtime/` are top-level names, ours are below `isthmus`: they never meet.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from isthmus.runtime.errors import InputError

# Names in `sys.modules` that files beside a user's file were imported by, with the folder they came from.
_brought: dict[str, Path] = {}


def load_file(path: Path) -> ModuleType:
    """Return the module in the file `path`, executed anew.

    Raises:
        InputError: If there is no such file, or it fails.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file; give --model path/to/file.py:factory")
    # A name of its own per path: the user's file may be called like any module of ours.
    name = "isthmus_user_" + hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:12]
    specification = importlib.util.spec_from_file_location(name, path)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    sys.modules[name] = module  # dataclasses and pickles inside the file look themselves up there
    try:
        with beside(path):
            specification.loader.exec_module(module)
    except (Exception, SystemExit) as error:  # the user's file: whatever it raises is about that file
        del sys.modules[name]
        raise InputError(f"{path}: cannot be imported: {one_line(error)}") from None
    return module


@contextmanager
def beside(path: Path) -> Iterator[None]:
    """Let what runs inside import from the folder of `path` first.

    What an earlier file of another folder brought makes room: two folders may both have a `models/`.
    """
    folder = path.resolve().parent
    for name in [name for name, origin in _brought.items() if origin != folder]:
        sys.modules.pop(name, None)
        del _brought[name]
    importlib.invalidate_caches()  # the folder may be a second old
    known = set(sys.modules)
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))
        added = [name for name in sys.modules if name not in known]
        _brought.update({name: folder for name in added if _lies_in(name, sys.modules[name], folder)})


def one_line(error: BaseException) -> str:
    """Return an error's type and text on one line, not too long."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]


def _lies_in(name: str, module: ModuleType, folder: Path) -> bool:
    """Say whether `module` is a file or package of `folder` itself, not of an environment inside it."""
    top = name.partition(".")[0]
    for place in (getattr(module, "__file__", None), *getattr(module, "__path__", [])):
        resolved = None if place is None else Path(place).resolve()
        if resolved is not None and folder in resolved.parents:
            return resolved.relative_to(folder).parts[0].partition(".")[0] == top
    return False
