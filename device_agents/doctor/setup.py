"""What the agent was told: its bundle, provider, source, and room for what it writes."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from isthmus.device_agents.config import AgentConfig
from isthmus.device_agents.doctor.finding import Finding, dates_of, fail, ok, warn
from isthmus.device_agents.sources import open_source
from isthmus.runtime.bundle import Bundle, load_bundle
from isthmus.runtime.energy import open_meter
from isthmus.runtime.errors import IsthmusError
from isthmus.runtime.units import format_bytes
from isthmus.runtime.wire.certificate import read_certificate

# An event line of a frame, measured on logs of runs; a result line is longer.
_EVENT_BYTES, _RESULT_BYTES = 450, 700
_PROVIDERS = {
    "cpu": "CPUExecutionProvider",
    "xnnpack": "XnnpackExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
}
_FULL_SOON_S, _FULL_NOW_S = 24 * 3600.0, 600.0


def examine_setup(config: AgentConfig) -> tuple[list[Finding], Bundle | None]:
    """Return what there is to say of the settings, and the bundle if it is good."""
    findings, bundle = [_provider(config.provider), *_energy(config.energy)], None
    if config.bundle is not None:
        try:
            bundle = load_bundle(config.bundle)
        except IsthmusError as error:
            findings.append(_from_error("bundle", error))
        else:
            text = f"{config.bundle}: '{bundle.manifest.name}', {len(bundle.manifest.widths)} widths"
            findings.append(ok("bundle", text))
            findings.append(_source(config.source, bundle))
    for name in ("certificate", "authority"):
        pem = getattr(config, name)
        if pem is not None:
            remedy = f"renew it with 'isthmus certs', and give this device the new {pem.name}"
            findings.append(dates_of(f"{name} {pem}", read_certificate(pem), remedy))
    results = config.results
    files = {
        "event log": (config.events, _EVENT_BYTES),
        "results": (
            None if not results or results == "-" or "://" in results else Path(results),
            _RESULT_BYTES,
        ),
        "status file": (config.status, 0),
    }
    for name, (path, line_bytes) in files.items():
        if path is not None:
            findings.append(_room(name, path.expanduser().absolute().parent, line_bytes * config.fps))
    return findings, bundle


def _provider(choice: str) -> Finding:
    import onnxruntime

    there = onnxruntime.get_available_providers()
    listed = ", ".join(name.removesuffix("ExecutionProvider") for name in there)
    if choice != "auto" and _PROVIDERS.get(choice) not in there:
        return fail(
            "providers",
            f"{choice} is not among {listed}",
            "install the onnxruntime build of this device, or say auto",
        )
    return ok("providers", f"{listed} (ONNX Runtime {onnxruntime.__version__})")


def _energy(spec: str) -> list[Finding]:
    """Return the finding on a meter that was asked for; on `auto` there is one of the machine's."""
    if spec in ("auto", "none"):
        return []
    try:
        meter = open_meter(spec)
    except IsthmusError as error:
        return [_from_error("energy meter", error)]
    assert meter is not None
    meter.close()
    return [ok("energy meter", meter.source if meter.measured else f"{meter.source}: modelled, not measured")]


def _source(spec: str, bundle: Bundle) -> Finding:
    try:
        source = open_source(spec, bundle.manifest)
    except IsthmusError as error:
        return _from_error("source", error)
    source.close()
    return ok("source", source.name)


def _room(name: str, folder: Path, bytes_per_s: float) -> Finding:
    try:
        free = shutil.disk_usage(folder).free
    except OSError as error:
        return fail(name, f"{folder}: {error.strerror or error}", "make the folder, or name another")
    if not os.access(folder, os.W_OK):
        return fail(
            name, f"{folder}: this user may not write there", "name another folder, or change its owner"
        )
    text = f"{folder}: {format_bytes(free)} free"
    if bytes_per_s <= 0:
        return ok(name, text) if free > 1_000_000 else fail(name, text, "make room")
    lasting_s = free / bytes_per_s
    if lasting_s < _FULL_NOW_S:
        return fail(name, f"{text}, full after {lasting_s / 60:.0f} minutes", "make room, or log elsewhere")
    if lasting_s < _FULL_SOON_S:
        return warn(name, f"{text}, full after {lasting_s / 3600:.1f} hours", "make room, or rotate the log")
    return ok(name, f"{text}, enough for {lasting_s / 86400:.0f} days")


def _from_error(name: str, error: IsthmusError) -> Finding:
    text, _, remedy = " ".join(str(error).split()).rpartition("; ")
    return fail(name, text or remedy, remedy if text else "mend it")
