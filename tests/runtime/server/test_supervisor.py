"""The supervisor over workers of a few lines: their ends, their restarts, and when it gives up."""

import asyncio
import os
import signal
import socket
import sys

import pytest

from isthmus.runtime.errors import NetworkError, ServiceError
from isthmus.runtime.server import supervisor as supervisor_module
from isthmus.runtime.server.reserved_port import ReservedPort
from isthmus.runtime.server.restarts import Restarts
from isthmus.runtime.server.supervisor import StartFailedError, Supervisor

READY = 'print(\'{"event": "ready", "port": 1}\', flush=True)\n'
STOPPED = """
import signal, sys
def stop(number, frame):
    print('{"event": "stopped", "outcomes": {"ok": 3, "busy": 1}, "complete": true}', flush=True)
    sys.exit(0)
signal.signal(signal.SIGTERM, stop)
"""
WAIT = "import signal\nwhile True: signal.pause()\n"


def _supervisor(script, *, processes=2, **options):
    return Supervisor((sys.executable, "-c", script), processes=processes, port=1, **options)


async def _until(condition):
    async def wait():
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.01)

    await asyncio.wait_for(wait(), 60)


async def test_outcomes_of_all_workers_are_added_up():
    ready, signals = asyncio.Event(), asyncio.Queue()
    supervisor = _supervisor(STOPPED + READY + WAIT, on_ready=lambda said: ready.set())
    running = asyncio.create_task(supervisor.run(signals))
    await asyncio.wait_for(ready.wait(), 60)
    signals.put_nowait(signal.SIGINT)
    await asyncio.wait_for(running, 60)
    assert supervisor.outcomes == {"ok": 6, "busy": 2}
    assert supervisor.complete


async def test_a_dead_worker_is_started_again_and_told_of(caplog):
    ready, signals, dead = asyncio.Event(), asyncio.Queue(), []
    supervisor = _supervisor(STOPPED + READY + WAIT, on_ready=lambda said: ready.set(), on_death=dead.append)
    running = asyncio.create_task(supervisor.run(signals))
    await asyncio.wait_for(ready.wait(), 60)
    victim = supervisor._workers[1].pid
    os.kill(victim, signal.SIGKILL)
    await _until(lambda: 1 in supervisor._workers and supervisor._workers[1].pid != victim)
    assert dead == [victim]
    assert f"worker 1 (process {victim}) died with signal 9; again in 0.1 s" in caplog.text
    signals.put_nowait(signal.SIGTERM)
    await asyncio.wait_for(running, 60)


LIVE = """
import json, sys, threading
def live():
    while True:
        print('{"event": "alive"}', flush=True)
        if stopping.wait(0.02): return
stopping = threading.Event()
threading.Thread(target=live, daemon=True).start()
"""


async def test_a_worker_that_hangs_is_replaced_and_one_that_lives_is_not(caplog):
    ready, signals, dead = asyncio.Event(), asyncio.Queue(), []
    supervisor = _supervisor(
        STOPPED + READY + LIVE + WAIT,
        on_ready=lambda said: ready.set(),
        on_death=dead.append,
        hung_s=1.0,
        look_s=0.1,
    )
    running = asyncio.create_task(supervisor.run(signals))
    await asyncio.wait_for(ready.wait(), 60)
    victim, other = (supervisor._workers[number].pid for number in (1, 0))
    os.kill(victim, signal.SIGSTOP)
    await _until(lambda: dead and 1 in supervisor._workers and supervisor._ready[1].is_set())
    assert dead[0] == victim
    assert f"worker 1 (process {victim}) gave no sign of life for 1 s; killed" in caplog.text
    assert supervisor._workers[0].pid == other or dead.count(other), "the other was not killed for it"
    signals.put_nowait(signal.SIGTERM)
    await asyncio.wait_for(running, 60)


async def test_what_one_worker_changes_the_others_are_told():
    # Worker 0 asks at once; worker 1 writes what it is told into its last words.
    script = """
import json, os, signal, sys
number = os.environ['ISTHMUS_SERVE_WORKER'][0]
print('{"event": "ready", "port": 1}', flush=True)
if number == '1':
    order = json.loads(sys.stdin.readline())
    error = "cannot " + order["model"]
    print(json.dumps({"event": "changed", "token": order["token"], "error": error}), flush=True)
else:
    while True:  # until the other is there
        print(json.dumps({"event": "change", "change": "load", "model": "m", "token": "5"}), flush=True)
        told = json.loads(sys.stdin.readline())
        if told["errors"]: break
    outcomes = {told["told"] + " " + told["errors"][0]: 1}
    print(json.dumps({"event": "stopped", "outcomes": outcomes, "complete": True}), flush=True)
while True: signal.pause()
"""
    supervisor, signals = _supervisor(script), asyncio.Queue()
    running = asyncio.create_task(supervisor.run(signals))
    await _until(lambda: supervisor.outcomes)
    assert supervisor.outcomes == {"5 process 1: cannot m": 1}
    signals.put_nowait(signal.SIGTERM)
    await asyncio.wait_for(running, 60)


async def test_a_worker_that_dies_again_and_again_is_given_up(tmp_path):
    script = (
        STOPPED
        + READY
        + "import os, sys\nif os.environ['ISTHMUS_SERVE_WORKER'][0] == '1': sys.exit(9)\n"
        + WAIT
    )
    supervisor = _supervisor(script, restarts=lambda: Restarts(most=3, first_s=0.01))
    with pytest.raises(ServiceError) as given_up:
        await asyncio.wait_for(supervisor.run(asyncio.Queue()), 60)
    assert str(given_up.value) == (
        "worker 1 died 3 times right after its start, last with exit code 9; "
        "see the log above, and start the server again"
    )
    assert not supervisor._workers, "the other one was stopped"


async def test_a_first_worker_that_does_not_start_starts_no_other():
    supervisor = _supervisor("import sys; sys.exit(4)")
    with pytest.raises(StartFailedError) as failed:
        await asyncio.wait_for(supervisor.run(asyncio.Queue()), 60)
    assert failed.value.code == 4


async def test_a_stop_before_anybody_is_ready_ends_it():
    signals = asyncio.Queue()
    supervisor = _supervisor(WAIT)
    running = asyncio.create_task(supervisor.run(signals))
    await _until(lambda: supervisor._workers)
    signals.put_nowait(signal.SIGTERM)
    await asyncio.wait_for(running, 60)
    assert not supervisor._workers


async def test_a_worker_that_does_not_stop_is_killed(caplog, monkeypatch):
    monkeypatch.setattr(supervisor_module, "_MARGIN_S", 0.1)
    ready, signals = asyncio.Event(), asyncio.Queue()
    deaf = "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
    supervisor = _supervisor(deaf + READY + WAIT, grace_s=0.1, on_ready=lambda said: ready.set())
    running = asyncio.create_task(supervisor.run(signals))
    await asyncio.wait_for(ready.wait(), 60)
    workers = [worker.pid for worker in supervisor._workers.values()]
    signals.put_nowait(signal.SIGTERM)
    await asyncio.wait_for(running, 60)
    assert not supervisor.complete
    for number, pid in enumerate(workers):
        assert f"worker {number} (process {pid}) does not stop; killed" in caplog.text


def test_a_reserved_port_takes_sharers_and_keeps_others_out():
    port = ReservedPort("127.0.0.1", 0)
    with socket.socket() as sharer, socket.socket() as other:
        sharer.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sharer.bind(("127.0.0.1", port.port))
        with pytest.raises(OSError, match="in use"):
            other.bind(("127.0.0.1", port.port))
        with pytest.raises(NetworkError, match="cannot be bound: Address already in use"):
            ReservedPort("127.0.0.1", port.port)
    port.close()
