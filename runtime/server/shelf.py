"""Where bundles are found by their names: the directories given, and the sub-folders of a repository."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import msgspec

from isthmus.runtime.bundle import MANIFEST, Bundle, load_bundle
from isthmus.runtime.errors import BundleError, InputError, UnknownModelError

log = logging.getLogger("isthmus.server")


class _Named(msgspec.Struct):
    name: str


class Shelf:
    """The bundles that may be served. What a folder holds is looked up anew each time."""

    def __init__(self, bundles: tuple[Path, ...], repository: Path | None = None) -> None:
        """Look in the directories `bundles`, and in the sub-folders of `repository`."""
        self._bundles = bundles
        self._repository = repository

    def load_all(self) -> list[Bundle]:
        """Return every bundle; of a repository only those that can be used, the others are logged.

        Raises:
            BundleError: If a bundle given by its own directory cannot be used.
            InputError: If two have one name, or the repository is no directory.
        """
        if self._repository is not None and not self._repository.is_dir():
            raise InputError(f"{self._repository}: no such directory; give --repository a folder of bundles")
        found: dict[str, Bundle] = {}
        for path in (*self._bundles, *self._in_repository()):
            try:
                bundle = load_bundle(path)
            except BundleError as error:
                if path in self._bundles:
                    raise
                log.warning("not served: %s", error)
                continue
            name = bundle.manifest.name
            if name in found:
                raise InputError(
                    f"{path}: its name '{name}' is that of {found[name].root} as well; "
                    "serve one of them, or export one under another --name"
                )
            found[name] = bundle
        return list(found.values())

    def load(self, name: str) -> Bundle:
        """Return the bundle `name`, as it lies there now.

        Raises:
            BundleError: If it cannot be verified.
            UnknownModelError: If no folder holds a bundle of this name.
        """
        for path in (*self._bundles, *self._in_repository()):
            if _name_in(path) == name:
                return load_bundle(path)
        # A name that cannot be read any more may still be the folder's.
        for path in (*self._bundles, *self._in_repository()):
            if path.name == name:
                return load_bundle(path)
        raise UnknownModelError(
            f"unknown model {name!r}: no bundle of this name is in a folder of this server"
        )

    def names(self) -> tuple[str, ...]:
        """Return the names of the bundles that are there now, verified or not."""
        found = (_name_in(path) for path in (*self._bundles, *self._in_repository()))
        return tuple(dict.fromkeys(name for name in found if name))

    def _in_repository(self) -> Iterator[Path]:
        if self._repository is None or not self._repository.is_dir():
            return
        for path in sorted(self._repository.iterdir()):
            if (path / MANIFEST).is_file():
                yield path


def _name_in(path: Path) -> str:
    """Return the name that the manifest in `path` gives; empty if it cannot be read."""
    try:
        return msgspec.json.decode((path / MANIFEST).read_bytes(), type=_Named).name
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return ""


def manifest_stamp(root: Path) -> tuple[int, int, int] | None:
    """Return what changes whenever the bundle in `root` is written anew; None: it is not there.

    The manifest is written last, and whole: when it has changed, the files it names are there.
    """
    try:
        found = (root / MANIFEST).stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
