"""Machine profiles on disk: the user's own, and the references that ship with Isthmus."""

from __future__ import annotations

import math
import os
from importlib import resources
from pathlib import Path

import msgspec

from isthmus.runtime.errors import ArtifactError, InputError
from isthmus.runtime.machines.profile import MACHINE_SCHEMA_VERSION, MachineProfile

_REFERENCE = "reference"
# Other names of the references.
ALIASES = {
    "raspberry-pi-4": "pi4",
    "rpi4": "pi4",
    "raspberry-pi-5": "pi5",
    "rpi5": "pi5",
    "nano": "jetson-nano",
    "jetson-orin-nano": "orin-nano",
    "server-cpu": "cloud-6700k",
}
_AGAIN = "make it again with 'isthmus partition profile'"


def reference_machines() -> tuple[str, ...]:
    """Return the names of the profiles that ship with Isthmus."""
    folder = resources.files(__package__).joinpath(_REFERENCE)
    return tuple(sorted(item.name[:-5] for item in folder.iterdir() if item.name.endswith(".json")))


def load_machine(spec: str | os.PathLike[str]) -> MachineProfile:
    """Return the profile that `spec` names: a shipped reference, or else a file.

    Args:
        spec: A name of `reference_machines()`, e.g. `pi4`, one of its `ALIASES`, or a path; `./pi4` is a
            path.

    Raises:
        ArtifactError: If there is neither, or it is damaged, of another version, or contradicts itself.
    """
    text = ALIASES.get(os.fspath(spec), os.fspath(spec))
    if text in reference_machines():
        item = resources.files(__package__).joinpath(_REFERENCE, f"{text}.json")
        return decode_machine(item.read_bytes(), text)
    try:
        raw = Path(text).read_bytes()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        known = ", ".join(reference_machines())
        raise ArtifactError(
            f"{text}: {reason}; give a file of 'isthmus partition profile', or one of: {known}"
        ) from None
    return decode_machine(raw, text)


def decode_machine(raw: bytes, where: str) -> MachineProfile:
    """Return the profile in `raw`, called `where` in errors.

    Raises:
        ArtifactError: If it is damaged, of another version, or contradicts itself.
    """
    try:
        fields = msgspec.json.decode(raw)
        version = fields.get("schema_version") if isinstance(fields, dict) else None
        if version != MACHINE_SCHEMA_VERSION:
            raise ArtifactError(
                f"{where}: machine profile version {version!r}, this Isthmus reads {MACHINE_SCHEMA_VERSION}; "
                f"{_AGAIN}"
            )
        profile = msgspec.json.decode(raw, type=MachineProfile)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ArtifactError(f"{where}: not a valid machine profile: {error}; {_AGAIN}") from None
    _check(profile, where)
    return profile


def write_machine(path: str | os.PathLike[str], profile: MachineProfile) -> None:
    """Write `profile` as JSON to `path`, atomically.

    Raises:
        ArtifactError: If the profile contradicts itself.
        InputError: If the file cannot be written.
    """
    file = Path(path)
    _check(profile, str(file))
    partial = file.with_name(file.name + ".partial")
    try:
        partial.write_bytes(msgspec.json.format(msgspec.json.encode(profile), indent=2) + b"\n")
        partial.replace(file)
    except OSError as error:
        raise InputError(f"{file}: {error.strerror or error}; choose another file for the profile") from None


def _check(profile: MachineProfile, where: str) -> None:
    for field in profile.cited:
        first, _, second = field.partition(".")
        part = getattr(profile, first, None)
        if first not in profile.__struct_fields__ or (second and not hasattr(part, second)):
            raise ArtifactError(
                f"{where}: 'cited' names {field!r}, which the profile does not have; {_AGAIN}"
            )
    classes = [speed.operator for speed in profile.operators]
    if twice := next((name for name in classes if classes.count(name) > 1), None):
        raise ArtifactError(f"{where}: speeds of {twice!r} are given twice; {_AGAIN}")
    for costs in profile.networks.values():
        label = costs.model or "a network"
        if costs.threads != profile.threads:
            raise ArtifactError(
                f"{where}: {label} was measured with {costs.threads} threads, the profile is for "
                f"{profile.threads}; {_AGAIN}"
            )
        total = math.fsum(costs.node_s.values())
        if not math.isclose(total, costs.whole_s, rel_tol=1e-6, abs_tol=1e-12):
            raise ArtifactError(
                f"{where}: the nodes of {label} sum to {total:.6g} s, the whole took {costs.whole_s:.6g} s; "
                f"{_AGAIN}"
            )
        places = [anchor.before for anchor in costs.anchors]
        if places != sorted(places):
            raise ArtifactError(f"{where}: the anchors of {label} are not in order; {_AGAIN}")
        if stray := set(costs.work) - set(costs.node_s):
            raise ArtifactError(f"{where}: {label} has work but no time for {min(stray)!r}; {_AGAIN}")
