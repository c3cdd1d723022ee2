"""Every error Isthmus raises on purpose, and the exit code each becomes.

```
IsthmusError
├── InputError (3)            a file, value or data set the user gave
│   └── PlanError             a plan or cut that does not fit the model
├── ArtifactError (4)         a bundle, plan or checkpoint that cannot be verified
│   └── BundleError
├── NetworkError (5)          an address that cannot be bound or reached
├── PeerError (5)             bytes from the other end that break the protocol
│   ├── PayloadError          a payload that cannot be decoded
│   └── WireError             a request or an answer that is malformed
├── ServiceError (5)          a well-formed request that a server does not serve
│   ├── UnknownModelError     no such model or version
│   ├── BusyError             its queue is full; another attempt may succeed
│   ├── DrainingError         it is starting or stopping; another server may take it
│   └── BackendError          the tail failed on it
├── AccessError (8)           TLS or authentication: one end does not accept the other
│   ├── UnauthenticatedError  a client does not prove who it is
│   └── ForbiddenError        a client may not do what it asks for
├── MissingExtraError (6)     a feature whose optional dependency is not installed
└── GateError (7)             a check that refuses a result: parity, accuracy, a NaN in training
```

Messages are one line: what is wrong, the offending value, and what to do. The command line prints
`error: MESSAGE` and exits with the number in brackets; 1 is our own bug (a traceback), 2 a wrong flag,
130 Ctrl-C.
"""

from __future__ import annotations

from typing import ClassVar


class IsthmusError(Exception):
    """The root of every deliberate error."""

    exit_code: ClassVar[int] = 1


class InputError(IsthmusError):
    """A file, value or data set that the user gave cannot be used."""

    exit_code = 3


class PlanError(InputError):
    """A plan or a cut does not fit the model."""


class ArtifactError(IsthmusError):
    """An artifact of ours cannot be verified, so it is not used."""

    exit_code = 4


class BundleError(ArtifactError):
    """A bundle is incomplete, altered or of another version."""


class NetworkError(IsthmusError):
    """An address cannot be bound or reached."""

    exit_code = 5


class PeerError(IsthmusError):
    """The other end sent bytes that break the protocol."""

    exit_code = 5


class PayloadError(PeerError):
    """A payload cannot be decoded."""


class WireError(PeerError):
    """A request or an answer is malformed."""


class ServiceError(IsthmusError):
    """A server does not serve a request that is well-formed."""

    exit_code = 5


class UnknownModelError(ServiceError):
    """The server has no such model or version."""


class BusyError(ServiceError):
    """The server has no room; another attempt may succeed.

    Attributes:
        retry_after_s: Seconds to wait before it, as the client is told.
    """

    retry_after_s: ClassVar[float] = 0.1


class DrainingError(ServiceError):
    """The server is starting or stopping; it takes no frames."""


class BackendError(ServiceError):
    """The tail failed on a batch."""


class AccessError(IsthmusError):
    """TLS or authentication failed: one end does not accept the other, and trying again does not help."""

    exit_code = 8


class UnauthenticatedError(AccessError):
    """A client does not prove who it is."""


class ForbiddenError(AccessError):
    """A client is known, and may not do what it asks for."""


class MissingExtraError(IsthmusError):
    """A feature needs an optional dependency that is not installed."""

    exit_code = 6

    def __init__(self, feature: str, extra: str) -> None:
        """Name the `feature` asked for and the `extra` that brings it."""
        super().__init__(f"{feature} needs an optional dependency: pip install 'isthmus[{extra}]'")


class GateError(IsthmusError):
    """A check refused a result, so that nothing wrong is shipped."""

    exit_code = 7
