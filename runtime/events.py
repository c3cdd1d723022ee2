"""The event log: one JSON line per fact of a run, the only thing reports and dashboards read.

Schema version 1. The first line of a log is a `run`, the last (if the run ended well) an `end`. All `*_s`
instants are `time.monotonic()` seconds of the host, so that logs written by several processes of one host
share an axis.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import IO, Literal

import msgspec

from isthmus.runtime.bundle.points import OperatingPoint
from isthmus.runtime.errors import ArtifactError
from isthmus.runtime.event_lines import decode_lines, read_lines
from isthmus.runtime.machines import RadioModel

EVENT_SCHEMA_VERSION = 1

Outcome = Literal["remote", "exit", "local", "late", "dropped"]
OUTCOMES: tuple[Outcome, ...] = ("remote", "exit", "local", "late", "dropped")


class RunEvent(msgspec.Struct, frozen=True, kw_only=True, tag="run"):
    """The start of a run and everything that stays constant in it.

    `agent` is what the device calls itself; `certificate_not_after_unix_s` the end of the certificate that it
    shows to servers, None if it shows none. `deadline_s` may change later: see `DeadlineEvent`. `idle_w` is
    what the device drew before the run, by the meter of the link events; None without one. `radio` is a model
    of the device's radio, from its profile; None where no profile was named.
    """

    at_s: float
    unix_s: float
    bundle: str
    bundle_digest: str
    source: str
    policy: str
    server: str
    deadline_s: float
    fps: float
    widths: tuple[float, ...]
    labels: tuple[str, ...]
    teacher_utility: float
    isthmus_version: str
    agent: str | None = None
    certificate_not_after_unix_s: float | None = None
    idle_w: float | None = None
    radio: RadioModel | None = None
    schema_version: int = EVENT_SCHEMA_VERSION


class FrameEvent(msgspec.Struct, frozen=True, kw_only=True, tag="frame", omit_defaults=True):
    """How one captured frame ended. Exactly one per frame; what is not known is left out of its line.

    `point` is what was computed or sent (None: nothing was). `answer` and `truth` are class indices. Times
    are durations: `latency_s` from capture to answer, the others its parts; None where that part did not
    happen. What they mean, and in which order they fill `latency_s`, is said once, in `STAGES`. Two of them
    are wholes of other parts: `remote_s` is everything from sending to the answer, and `server_queue_s`
    everything at the server before its batch began, `server_decode_s` included. `server_*` come from the
    server's answer; `server_received_s` is an instant of the server's monotonic clock, not of this host's.
    `reason` is the policy's. A frame sent to the server but answered by the device, because the server's
    answer did not come in time, has outcome `exit` or `local` and `payload_bytes` > 0.
    """

    at_s: float
    frame: int
    captured_s: float
    outcome: Outcome
    point: OperatingPoint | None = None
    payload_bytes: int = 0
    answer: int | None = None
    truth: int | None = None
    latency_s: float | None = None
    wait_s: float | None = None
    handover_s: float | None = None
    head_s: float | None = None
    exit_s: float | None = None
    encode_s: float | None = None
    send_s: float | None = None
    remote_s: float | None = None
    server_received_s: float | None = None
    server_decode_s: float | None = None
    server_queue_s: float | None = None
    server_compute_s: float | None = None
    server_answer_s: float | None = None
    vain_s: float | None = None
    answer_s: float | None = None
    probe: bool = False
    reason: str = ""


def _network_s(event: FrameEvent) -> float | None:
    if event.remote_s is None or event.server_queue_s is None:
        return None
    said_s = event.server_queue_s + (event.server_compute_s or 0.0) + (event.server_answer_s or 0.0)
    return max(0.0, event.remote_s - said_s)


def _server_queue_s(event: FrameEvent) -> float | None:
    if event.remote_s is None or event.server_queue_s is None:
        return None
    return max(0.0, event.server_queue_s - (event.server_decode_s or 0.0))


@dataclass(frozen=True, slots=True)
class Stage:
    """One part of a frame's way from capture to answer.

    Attributes:
        name: Short, unique; what tables and charts call it.
        where: Who spends the time.
        meaning: From when to when, for people.
        seconds: Takes a frame's end and returns how long this part took; None: it did not happen, or is not
            known.
    """

    name: str
    where: Literal["device", "link", "server"]
    meaning: str
    seconds: Callable[[FrameEvent], float | None]


# In the order in which they happen. They fill `latency_s` without a gap and without overlap: what a frame has
# of them adds up to it, but for the microseconds between one clock reading and the next.
STAGES: tuple[Stage, ...] = (
    Stage(
        "wait", "device", "captured until computing began: frames before it, the choice", attrgetter("wait_s")
    ),
    Stage(
        "handover", "device", "to the worker thread and back, and between the parts", attrgetter("handover_s")
    ),
    Stage("head", "device", "the head", attrgetter("head_s")),
    Stage("exit", "device", "the early exit, asked first and not sure enough", attrgetter("exit_s")),
    Stage("codec", "device", "encoding the latent", attrgetter("encode_s")),
    Stage("send", "device", "encoded until gRPC took it", attrgetter("send_s")),
    Stage("network", "link", "both ways, with gRPC and the kernel of both ends", _network_s),
    Stage(
        "remote",
        "link",
        "network and a server that does not say what it spent",
        lambda event: event.remote_s if event.server_queue_s is None else None,
    ),
    Stage("server decode", "server", "decoding the payload", attrgetter("server_decode_s")),
    Stage("server queue", "server", "decoded until its batch began", _server_queue_s),
    Stage("tail", "server", "its batch in the tail", attrgetter("server_compute_s")),
    Stage(
        "server answer",
        "server",
        "computed until the answer was handed to gRPC",
        attrgetter("server_answer_s"),
    ),
    Stage("in vain", "device", "waited for a server that did not answer in time", attrgetter("vain_s")),
    Stage("answer", "device", "the device's own answer", attrgetter("answer_s")),
)


class LinkEvent(msgspec.Struct, frozen=True, kw_only=True, tag="link"):
    """Once a second: what the agent believes of its link.

    `server` is the one that is connected, or was last; None before the first connection.
    `temperature_c` is that of the hottest computing part; `throttled` says whether the device runs slower
    than it could; None where nothing on the device can tell.
    `energy_j` are the joules since the run began, by the meter `energy_source`; None without a meter, and
    where it does not know. Joules are modelled if and only if the source begins with "model:".
    """

    at_s: float
    connected: bool
    rate_bytes_per_s: float | None
    rtt_s: float | None
    backlog_bytes: int
    energy_j: float | None = None
    energy_source: str | None = None
    server: str | None = None
    temperature_c: float | None = None
    throttled: bool | None = None


class ShapeEvent(msgspec.Struct, frozen=True, kw_only=True, tag="shape"):
    """The true rate of an emulated link from `at_s` on, written by the link, never seen by the agent."""

    at_s: float
    rate_bytes_per_s: float


class DeadlineEvent(msgspec.Struct, frozen=True, kw_only=True, tag="deadline"):
    """Frames captured from `at_s` on have this deadline; written when it is changed while a run goes on."""

    at_s: float
    deadline_s: float


class EndEvent(msgspec.Struct, frozen=True, kw_only=True, tag="end"):
    """The end of a run: frames captured, and how many ended in each outcome."""

    at_s: float
    captured: int
    outcomes: dict[str, int]
    reconnects: int = 0


Event = RunEvent | FrameEvent | LinkEvent | ShapeEvent | DeadlineEvent | EndEvent


class EventLog:
    """Append events to a file, one JSON line each; a line is written whole or not at all.

    A full disk must not end a run: the first failed write is reported by `failed`, later events are only
        counted.
    """

    def __init__(
        self, path: str | os.PathLike[str], *, on_failed: Callable[[str], None] | None = None
    ) -> None:
        """Open `path` for writing.

        Args:
            path: The file; what was in it is lost.
            on_failed: Called once, with file and reason, when an event cannot be written.

        Raises:
            ArtifactError: If it cannot be opened.
        """
        self.path = Path(path)
        self._on_failed = on_failed
        self.lost = 0
        self.failed: str | None = None
        self._encoder = msgspec.json.Encoder()
        try:
            self._file: IO[bytes] = self.path.open("wb", buffering=0)
        except OSError as error:
            raise ArtifactError(
                f"{self.path}: {error.strerror or error}; choose another --events file"
            ) from None

    def write(self, event: Event) -> None:
        """Append one event."""
        line = self._encoder.encode(event) + b"\n"
        try:
            written = self._file.write(line)
            if written != len(line):
                # The disk filled up in mid-line: take the beginning back, so that what is there stays whole.
                self._file.seek(-written, os.SEEK_CUR)
                self._file.truncate()
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            self.lost += 1
            if self.failed is None:
                self.failed = f"{self.path}: {error.strerror or error}"
                if self._on_failed is not None:
                    self._on_failed(self.failed)

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def read_events(path: str | os.PathLike[str]) -> Iterator[Event]:
    """Yield the events of the log `path`; memory does not grow with its length.

    A torn last line (a process that was killed, a machine that lost its power) is ignored; any other bad line
    is an error.

    Raises:
        ArtifactError: If the file is missing, of another version, or a line is not an event.
    """
    file = Path(path)
    decoder: msgspec.json.Decoder[Event] = msgspec.json.Decoder(Event)
    for lines in read_lines(file):
        for event in decode_lines(decoder, lines, file):
            if isinstance(event, RunEvent) and event.schema_version != EVENT_SCHEMA_VERSION:
                raise ArtifactError(
                    f"{file}: event schema {event.schema_version}, this Isthmus reads {EVENT_SCHEMA_VERSION}"
                )
            yield event
