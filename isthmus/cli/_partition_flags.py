"""Read the flags of `isthmus partition`: machines, link, objective, pins, watts, sizes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from isthmus.runtime.errors import InputError

if TYPE_CHECKING:
    from isthmus.partitioner import DeviceProfile, LinkProfile, Objective, TraceLink
    from isthmus.runtime.machines import MachineProfile, Power

THIS = "this"
DEFAULT_RATE = "1Mbit"
_OBJECTIVES = ("latency", "energy", "throughput", "on-time")
_PLOT_FORMATS = (".png", ".svg", ".pdf")


def machine(
    spec: str, role: str, *, speed: float, threads: int | None, default_threads: int = 1
) -> DeviceProfile | MachineProfile:
    """Return the machine that `--device` or `--server` names; `this` is the one we run on.

    Args:
        spec: `this`, a profile's file, or the name of a reference.
        role: `device` or `server`.
        speed: Of this machine; 1 where the flag was not given.
        threads: Of this machine; None where the flag was not given.
        default_threads: What stands in for `threads`.

    Raises:
        InputError: If speed or threads are given for a machine that has its own.
        ArtifactError: If there is no such profile.
    """
    from isthmus.partitioner import DeviceProfile
    from isthmus.runtime.machines import load_machine

    if spec == THIS:
        return DeviceProfile(name=role, threads=threads or default_threads, speed=speed)
    if speed != 1.0:
        raise InputError(f"--{role}-speed scales this machine; {spec} has its own times, leave it out")
    profile = load_machine(spec)
    if threads is not None and profile.threads not in (None, threads):
        raise InputError(
            f"{spec}: was measured with {profile.threads} threads, not {threads}; leave the flag out"
        )
    return profile


def link(rate: str | None, rtt: str, trace: str | None) -> LinkProfile | TraceLink:
    """Return the link: one rate, or a trace.

    Raises:
        InputError: If both are given, or one cannot be read.
    """
    from isthmus.partitioner import LinkProfile, TraceLink
    from isthmus.runtime.links import load_trace
    from isthmus.runtime.units import parse_duration_s, parse_rate_bytes_per_s

    rtt_s = parse_duration_s(rtt)
    if trace is None:
        return LinkProfile(rate_bytes_per_s=parse_rate_bytes_per_s(rate or DEFAULT_RATE), rtt_s=rtt_s)
    if rate is not None:
        raise InputError("--rate and --trace: give one of them, the trace has its own rates")
    return TraceLink(trace=load_trace(trace), rtt_s=rtt_s)


def objective(text: str) -> Objective:
    """Return the objective that `text` names; `weighted:ALPHA,BETA` is ALPHA·seconds + BETA·joules.

    Raises:
        InputError: If it names none.
    """
    from isthmus.partitioner import Objective

    if text in _OBJECTIVES:
        return Objective(kind=cast(Any, text))
    kind, _, weights = text.partition(":")
    values = _numbers(weights) if kind == "weighted" else []
    if len(values) != 2:
        raise InputError(
            f"--objective {text!r}: give {', '.join(_OBJECTIVES)} or weighted:ALPHA,BETA "
            "(ALPHA x seconds + BETA x joules)"
        )
    return Objective(kind="weighted", alpha=values[0], beta=values[1])


def power(text: str | None) -> Power | None:
    """Return the watts IDLE,COMPUTE,TRANSMIT of `--power`, the last two above idle; None without any.

    Raises:
        InputError: If these are not three numbers of at least 0.
    """
    if text is None:
        return None
    from isthmus.runtime.machines import Power

    watts = _numbers(text)
    if len(watts) != 3 or min(watts) < 0:
        raise InputError(
            f"--power {text!r}: give IDLE,COMPUTE,TRANSMIT in watts, the last two above idle, as 2.7,3.7,0.8"
        )
    return Power(
        idle_w=watts[0],
        compute_w=watts[1],
        transmit_w=watts[2],
        source="published",
        origin="given with --power",
    )


def pins(given: Sequence[str] | None) -> dict[str, str]:
    """Return the machine by name of every NAME=device or NAME=server.

    Raises:
        InputError: If one has no `=`, or a name is pinned twice.
    """
    found: dict[str, str] = {}
    for text in given or ():
        name, equals, side = text.rpartition("=")
        if not equals or not name or side not in ("device", "server"):
            raise InputError(f"--pin {text!r}: give NAME=device or NAME=server")
        if found.setdefault(name, side) != side:
            raise InputError(f"--pin {name}: is pinned to the device and to the server; choose one")
    return found


def sizes(given: Sequence[str] | None) -> dict[str, int]:
    """Return the size by name of every NAME=N of `--dim`.

    Raises:
        InputError: If one is not a name and a whole number.
    """
    found: dict[str, int] = {}
    for text in given or ():
        name, _, size = text.rpartition("=")
        if not name or not size.isdecimal():
            raise InputError(f"--dim {text!r}: give NAME=N, a symbolic dimension and its size")
        found[name] = int(size)
    return found


def plot_file(file: Path | None) -> Path | None:
    """Return `file` if a plot can be written there; to know before anything is measured.

    Raises:
        InputError: If its ending is none we draw, or its folder is not there.
        ModuleNotFoundError: If matplotlib is not installed.
    """
    if file is None:
        return None
    import matplotlib  # noqa: F401

    if file.suffix.lower() not in _PLOT_FORMATS:
        raise InputError(f"--plot {file}: give a file that ends in {', '.join(_PLOT_FORMATS)}")
    if not file.resolve().parent.is_dir():
        raise InputError(f"--plot {file}: its folder does not exist; make it or choose another file")
    return file


def _numbers(text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        return []
