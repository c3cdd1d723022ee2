"""The files that say who may do what: tokens, revoked certificates, who may use which bundle.

Decides their formats, and that a file is read again when it changes. A file that is spoilt or gone while the
server runs leaves in force what was read before it: a slip of an editor must neither open a server nor close
it to everybody.
"""

from __future__ import annotations

import hmac
import logging
import os
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Generic, TypeVar

from isthmus.runtime.errors import InputError, IsthmusError
from isthmus.runtime.wire.certificate import check_secret

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

log = logging.getLogger("isthmus.server")

# Revoked certificates, beside the authority that issued them.
REVOKED: Final = "revoked.txt"
# In a list of who may use what: every bundle, every client; and who may load and unload bundles.
EVERY: Final = "*"
OPERATORS: Final = "@operators"

_SHORTEST_TOKEN = 16
_FINGERPRINT = re.compile(r"[0-9a-f]{64}")
# Names and tokens of this form can stand in a line, a header and a log.
_WORD = re.compile(r"[!-~]{1,256}")

T = TypeVar("T")


class WatchedFile(Generic[T]):
    """What a file says, read again when it has changed.

    Args:
        path: The file.
        parse: Makes a value of the text; raises `InputError` if it cannot.
        missing: The value while there is no such file; None: it must be there.
        secret: Refuse a file that everybody on this host may read.

    Attributes:
        value: What was last read.
        version: Grows by one whenever `value` changes.

    Raises:
        InputError: If it cannot be used at first.
    """

    def __init__(
        self, path: Path, parse: Callable[[str], T], *, missing: T | None = None, secret: bool = False
    ) -> None:
        self.path = path
        self.version = 0
        self._parse = parse
        self._missing = missing
        self._secret = secret
        self._seen = self._stamp()
        self.value = self._read()

    def look(self) -> None:
        """Read the file again if it has changed since it was read last."""
        stamp = self._stamp()
        if stamp == self._seen:
            return
        self._seen = stamp
        try:
            if stamp is None:
                raise InputError(f"{self.path}: is gone")
            self.value = self._read()
        except IsthmusError as error:
            log.warning("%s; what was read before stays in force", error)
            return
        self.version += 1
        log.info("%s: read again", self.path)

    def _stamp(self) -> tuple[int, int, int] | None:
        try:
            found = os.stat(self.path)
        except OSError:
            return None
        return found.st_mtime_ns, found.st_size, found.st_ino

    def _read(self) -> T:
        if self._seen is None and self._missing is not None:
            return self._missing
        if self._secret:
            check_secret(self.path)
        try:
            return self._parse(self.path.read_text(encoding="utf-8"))
        except OSError as error:
            raise InputError(f"{self.path}: {error.strerror or error}; name a file that is there") from None
        except UnicodeDecodeError:
            raise InputError(f"{self.path}: not a text file; mend it") from None


class Tokens:
    """Bearer tokens and whose they are; a token is compared in a time that does not tell where it differs."""

    def __init__(self, name_of: Mapping[str, str]) -> None:
        """Take token → name."""
        self._pairs = [(token.encode(), name) for token, name in name_of.items()]

    def name_of(self, token: str) -> str | None:
        """Return whose token this is; None: nobody's."""
        given, found = token.encode("utf-8", errors="surrogateescape"), None
        for known, name in self._pairs:  # all of them, whichever it is
            if hmac.compare_digest(known, given):
                found = name
        return found


@dataclass(frozen=True, slots=True)
class AllowList:
    """Who may use which bundle, by bundle; `EVERY` stands for all bundles, or all clients.

    Attributes:
        clients: bundle → names of clients.
    """

    clients: Mapping[str, frozenset[str]]

    def allows(self, client: str, bundle: str) -> bool:
        """Say whether `client` may use `bundle`."""
        return any(
            client in names or EVERY in names
            for names in (self.clients.get(bundle, frozenset()), self.clients.get(EVERY, frozenset()))
        )

    def is_operator(self, client: str) -> bool:
        """Say whether `client` may load and unload bundles and see all of them."""
        return client in self.clients.get(OPERATORS, frozenset())


def read_tokens(text: str, *, source: str) -> Tokens:
    """Return the tokens of a file with one `name token` a line; '#' begins a comment line.

    Raises:
        InputError: If a line has another form, a token is short, or two clients share one.
    """
    name_of: dict[str, str] = {}
    for number, line in _lines(text):
        words = line.split()
        if len(words) != 2 or not all(_WORD.fullmatch(word) for word in words):
            raise InputError(f"{source}, line {number}: not 'name token'; mend it")
        name, token = words
        if len(token) < _SHORTEST_TOKEN:
            raise InputError(
                f"{source}, line {number}: the token of {name!r} has {len(token)} characters; give "
                f"{_SHORTEST_TOKEN} or more, such as 'openssl rand -hex 32' prints"
            )
        if name_of.setdefault(token, name) != name:
            raise InputError(f"{source}, line {number}: {name!r} has the token of {name_of[token]!r}")
    if not name_of:
        raise InputError(f"{source}: no token in it; give one 'name token' a line")
    return Tokens(name_of)


def read_revoked(text: str, *, source: str) -> Mapping[str, str]:
    """Return fingerprint → name of a file with one `fingerprint name date` a line.

    Raises:
        InputError: If a line does not begin with a SHA-256 fingerprint.
    """
    revoked: dict[str, str] = {}
    for number, line in _lines(text):
        fingerprint, *rest = line.split()
        # As other tools write them: in capitals, with colons.
        fingerprint = fingerprint.replace(":", "").lower()
        if not _FINGERPRINT.fullmatch(fingerprint):
            raise InputError(
                f"{source}, line {number}: no SHA-256 fingerprint; 'isthmus certs revoke' writes it"
            )
        revoked[fingerprint] = rest[0] if rest else ""
    return revoked


def read_allow(text: str, *, source: str) -> AllowList:
    """Return the list of a TOML file with lines such as `digits = ["camera-1", "camera-2"]`.

    Raises:
        InputError: If it is no such file.
    """
    try:
        return make_allow(tomllib.loads(text), source=source)
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{source}: not a TOML file ({error}); mend it") from None


def make_allow(clients: Mapping[str, object], *, source: str) -> AllowList:
    """Return the list of bundle → names.

    Raises:
        InputError: If a value is no list of names.
    """
    made: dict[str, frozenset[str]] = {}
    for bundle, names in clients.items():
        if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
            raise InputError(
                f'{source}: {bundle!r} needs a list of clients, such as ["camera-1", "camera-2"]'
            )
        made[bundle] = frozenset(names)
    return AllowList(made)


def _lines(text: str) -> list[tuple[int, str]]:
    numbered = [(number, line.strip()) for number, line in enumerate(text.splitlines(), start=1)]
    return [(number, line) for number, line in numbered if line and not line.startswith("#")]
