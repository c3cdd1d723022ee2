"""What tests with real processes share."""

import importlib
import os
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import isthmus
from isthmus.runtime.wire import InferenceStub, latent_request, parse_stream_answer
from isthmus.runtime.wire.tls import ClientSecurity

_BENCHMARKS = Path(isthmus.__file__).resolve().parents[1] / "benchmarks"
# What a server may hold more than before: pools of allocators, which are not given back to the last page.
_SLACK_BYTES = 24 << 20
# gRPC and asyncio have pools of threads that come and go, of a few more than there are cores.
_POOLED_THREADS = 4 + (os.cpu_count() or 1)
_PATIENCE_S = 60


@pytest.fixture(scope="session")
def from_benchmarks():
    """Return `from_benchmarks(module)`, which imports one of the benchmarks' helpers."""

    def load(name):
        if str(_BENCHMARKS) not in sys.path:
            sys.path.append(str(_BENCHMARKS))  # last, as `isthmus bench` does it
        return importlib.import_module(name)

    return load


@pytest.fixture(scope="session")
def server_process(from_benchmarks):
    """Return the class `ServerProcess`; close what you start."""
    return from_benchmarks("_fuzz.server_process").ServerProcess


@pytest.fixture(scope="session")
def returns_to():
    """Return `returns_to(server, before)`: wait until it holds no more than then, give or take pools."""

    def wait(server, before):
        ends_s = time.monotonic() + _PATIENCE_S
        while True:
            now = server.footprint()
            grown = now.resident_bytes - before.resident_bytes
            more_threads = now.threads - before.threads
            if now.files <= before.files and more_threads <= _POOLED_THREADS and grown <= _SLACK_BYTES:
                return now
            assert time.monotonic() < ends_s, f"{before} became {now}"
            time.sleep(0.1)

    return wait


@pytest.fixture(scope="session")
def traffic():
    """Return `frame`, `exchange`, `warm_up` and `settled`: frames of the tiny bundle, and what sends them."""
    return SimpleNamespace(frame=_frame, exchange=_exchange, warm_up=_warm_up, settled=_settled)


def _frame(number, *, rows=1):
    latent = np.full((rows, 4, 4, 4), 100, np.uint8)
    return latent_request(model="tiny", frame_id=str(number), latent_nchw=latent, budget_us=None)


async def _exchange(channel, *, frames, rows=1):
    """Return how many of so many frames of one stream were answered "ok", each once."""
    call = InferenceStub(channel).ModelStreamInfer()
    for number in range(frames):
        await call.write(_frame(number, rows=rows))
    await call.done_writing()
    answers = [parse_stream_answer(message) async for message in call]
    assert sorted(int(answer.frame_id) for answer in answers) == list(range(frames))
    return sum(answer.outcome == "ok" for answer in answers)


async def _warm_up(server):
    """Have the server start its threads and fill its pools; return how many frames were "ok"."""
    async with ClientSecurity().channel(server.address) as channel:
        served = [await _exchange(channel, frames=50) for _ in range(20)]
        assert served == [50] * 20
        return sum(served) + await _exchange(channel, frames=50, rows=32)


def _settled(server):
    """Return what the server holds when connections that have ended are closed at its end too."""
    found = [server.footprint()]
    for _ in range(600):
        time.sleep(0.1)
        found.append(server.footprint())
        if len({(one.files, one.threads) for one in found[-5:]}) == 1 and len(found) > 5:
            break
    return found[-1]
