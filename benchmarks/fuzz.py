"""Inputs made to break what reads a peer's bytes: payloads in-process, requests against a real server.

Options:
    payloads: How many fuzzed payloads. Default 1,000,000, half of them with the C coder as it is installed,
        half with one built with GCC's address and undefined-behaviour sanitisers, where there is a GCC.
    requests: How many calls of a server. Default 100,000.
    guided: How many payloads more that coverage of the Python code guides (Atheris). Default 100,000; none
        where it is not installed.
    seconds: Each of these parts ends after so long at the latest. Default 3600.
    seed: The inputs are the same for the same seed, the guided ones nearly.
    bundle: The bundle served. Default: a tiny one, made for the run.

- Payloads are well-formed ones of every codec, with and without context networks, that were altered, cut,
  spliced, given headers of extreme numbers or bodies of random bytes, most of them with the checksum made
  right again. Each must be decoded or refused with a `PayloadError` of one line, within a second of processor
  time; what is decoded must be coded to the same bytes again (but for LZ4), and every second one is read by
  the numpy coder as well, which must agree.
- Calls are unary (6 of 10), streams of up to 12 messages (3 of 10) and the protocol's other methods,
  well-formed or altered field by field, byte by byte or random. Each must end with a documented status and
  one short line; no stream has more answers than messages; after every 500 calls health must be SERVING and a
  good frame be answered; frames that the server counts as served are those that were answered, each once; its
  log has no traceback.
- Memory is measured after a warm-up and at the end, and may grow by 32 MiB.
- `violations` are inputs that broke one of these rules; there must be none.

`quick` is a thousandth of it.
"""

from __future__ import annotations

import importlib.util
import tempfile
from pathlib import Path
from types import ModuleType
from typing import Any

from _fuzz.guided import guide, has_guide
from _fuzz.payload_run import run_payloads
from _fuzz.request_run import send_requests
from _fuzz.sanitised import build_coder

_TINY = Path(__file__).resolve().parents[1] / "tests" / "tiny_bundle.py"


def run(
    *,
    quick: bool = False,
    payloads: int = 1_000_000,
    requests: int = 100_000,
    guided: int = 100_000,
    seconds: float = 3600.0,
    seed: int = 1,
    bundle: str = "",
) -> dict[str, Any]:
    """Return what came of the inputs."""
    if quick:
        payloads, requests, guided = payloads // 1000, requests // 1000, guided // 1000
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        coder = build_coder(folder)
        figures: dict[str, Any] = {
            "payloads": run_payloads(folder, payloads=payloads - payloads // 2, seconds=seconds, seed=seed),
            "payloads_sanitised": run_payloads(
                folder, payloads=payloads // 2, seconds=seconds, seed=seed + 1, coder=coder
            ),
        }
        if has_guide():
            figures["payloads_guided"] = guide(folder, payloads=guided, seconds=seconds, seed=seed)
        served = Path(bundle) if bundle else _tiny().make_bundle(folder / "tiny")
        figures["requests"] = send_requests(served, calls=requests, seconds=seconds, seed=seed)
    return {"figures": figures | {"totals": _totals(figures)}, "ratios": {}}


def _totals(figures: dict[str, Any]) -> dict[str, Any]:
    parts = [part for name, part in figures.items() if name.startswith("payloads")]
    return {
        "payloads": sum(part.get("payloads", 0) for part in parts),
        "calls": figures["requests"]["calls"],
        "messages": figures["requests"]["messages"],
        "violations": sum(len(part["violations"]) for part in figures.values()),
    }


def _tiny() -> ModuleType:
    spec = importlib.util.spec_from_file_location("tiny_bundle", _TINY)
    assert spec is not None, "a .py file has a loader"
    assert spec.loader is not None, "a .py file has a loader"
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
