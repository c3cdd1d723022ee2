"""A stopped process (SIGSTOP) on either side is noticed within 6 s; an idle connection lives on.

A stopped process's kernel goes on acknowledging, so nothing but unanswered pings tells.
"""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import grpc
import numpy as np
import pytest

import isthmus
from isthmus.runtime.wire import InferenceStub, latent_request, parse_stream_answer
from isthmus.runtime.wire.tls import ClientSecurity

REPOSITORY = Path(isthmus.__file__).resolve().parents[1]
PATIENCE_S = 60
NOTICED_S = 6.0
IDLE_S = 190.0


@pytest.fixture
def start():
    """Return `start(*arguments)`, which starts a verb with its output and errors in pipes."""
    started = []

    def launch(*arguments):
        path = os.pathsep.join([str(REPOSITORY), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
        started.append(
            subprocess.Popen(
                [sys.executable, "-m", "isthmus", *(str(argument) for argument in arguments)],
                env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path, "COLUMNS": "300"},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
        return started[-1]

    yield launch
    for process in started:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGCONT)
        process.kill()
        process.communicate(timeout=PATIENCE_S)


@pytest.fixture
def serve(start, tiny_bundle):
    """Return `serve(*flags) -> (process, address)`."""

    def launch(*flags):
        process = start("serve", tiny_bundle, "--port", "0", "--threads", "1", "--json", *flags)
        line = process.stdout.readline()
        assert line, process.stderr.read()
        return process, f"127.0.0.1:{json.loads(line)['port']}"

    return launch


@pytest.fixture
def stream_agent(start, tiny_bundle):
    """Return `stream_agent(address, *flags)`, which starts an agent and waits until it is connected."""

    def launch(address, *flags):
        options = ["--source", "synthetic", "--fps", "10", "--deadline", "1s", "--policy", "fixed:3,4"]
        process = start("agent", tiny_bundle, "--server", address, *options, "--json", *flags)
        _line_with(process, "connected to")
        return process

    return launch


def _line_with(process, text):
    """Read the process's errors up to the line with `text`; return when it came."""
    for line in process.stderr:
        if text in line:
            return time.monotonic()
    raise AssertionError(f"it ended without {text!r}")


@pytest.mark.parametrize("secure", [False, True])
def test_an_agent_notices_a_stopped_server(serve, stream_agent, request, secure):
    flags, mine = [], []
    if secure:
        pki, module = request.getfixturevalue("pki"), request.getfixturevalue("pki_module")
        flags, mine = pki.serving_flags(), module.flags_of(pki.client())
    server, address = serve(*flags)
    agent = stream_agent(address, *mine)
    server.send_signal(signal.SIGSTOP)
    stopped_s = time.monotonic()
    assert _line_with(agent, f"no connection to {address}") - stopped_s <= NOTICED_S
    server.send_signal(signal.SIGCONT)
    _line_with(agent, "connected to")
    agent.send_signal(signal.SIGINT)
    out, _ = agent.communicate(timeout=PATIENCE_S)
    result = json.loads(out)
    assert result["captured"] == sum(result["outcomes"].values())
    assert result["outcomes"]["remote"] > 0


async def test_a_server_frees_the_stream_of_a_stopped_agent(serve, stream_agent):
    _, address = serve("--max-streams-per-client", "1")
    agent = stream_agent(address)
    latent = np.full((1, 4, 4, 4), 100, np.uint8)
    async with ClientSecurity().channel(address) as channel:
        stub = InferenceStub(channel)

        async def is_free():
            call = stub.ModelStreamInfer()
            try:
                await call.write(
                    latent_request(model="tiny", frame_id="0", latent_nchw=latent, budget_us=None)
                )
                return parse_stream_answer(await call.read()).outcome == "ok"
            except (grpc.aio.AioRpcError, asyncio.InvalidStateError):  # a write may find it refused already
                return False
            finally:
                call.cancel()

        # The agent says that it is connected a moment before it opens its stream, and may find ours there.
        taken_by_s = time.monotonic() + PATIENCE_S
        while await is_free():
            assert time.monotonic() < taken_by_s, "the agent never took the only stream"
            await asyncio.sleep(0.2)
        agent.send_signal(signal.SIGSTOP)
        stopped_s = time.monotonic()
        while not await is_free():
            assert time.monotonic() - stopped_s <= NOTICED_S
            await asyncio.sleep(0.05)


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_an_idle_connection_lives_on(serve, pki):
    """The pings that notice a hung peer so soon are no reason to be dropped (`too_many_pings`)."""
    _, address = serve(*pki.serving_flags())
    latent = np.full((1, 4, 4, 4), 100, np.uint8)

    def frame(number):
        return latent_request(model="tiny", frame_id=str(number), latent_nchw=latent, budget_us=None)

    async with pki.client().channel(address) as channel:
        call = InferenceStub(channel).ModelStreamInfer()
        await call.write(frame(0))
        assert parse_stream_answer(await call.read()).frame_id == "0"
        state = channel.get_state()
        assert state is grpc.ChannelConnectivity.READY
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(channel.wait_for_state_change(state), IDLE_S)
        await call.write(frame(1))
        assert parse_stream_answer(await call.read()).frame_id == "1"
