"""Frames as a profiler sees them, without a device."""

import asyncio
import time

import pytest

from isthmus.device_agents.profiling.sample import Sample
from isthmus.runtime.events import FrameEvent


@pytest.fixture
def remote_event():
    """Return `make(...)`: a frame answered by a server whose clock is `offset_s` ahead, everything known."""

    def make(
        *,
        frame=0,
        captured_s=100.0,
        out_s=0.004,
        back_s=0.002,
        offset_s=0.0,
        head_s=0.003,
        tail_s=0.005,
        **more,
    ):
        wait_s, handover_s, encode_s, send_s = 0.0005, 0.0002, 0.0004, 0.0001
        decode_s, queued_s, answer_s = 0.0003, 0.0007, 0.0002
        sent_s = captured_s + wait_s + handover_s + head_s + encode_s + send_s
        there_s = decode_s + queued_s + tail_s + answer_s
        at_s = sent_s + out_s + there_s + back_s
        return FrameEvent(
            **{
                "at_s": at_s,
                "frame": frame,
                "captured_s": captured_s,
                "outcome": "remote",
                "payload_bytes": 200,
                "latency_s": at_s - captured_s,
                "wait_s": wait_s,
                "handover_s": handover_s,
                "head_s": head_s,
                "encode_s": encode_s,
                "send_s": send_s,
                "remote_s": at_s - sent_s,
                "server_received_s": sent_s + out_s + offset_s,
                "server_decode_s": decode_s,
                "server_queue_s": decode_s + queued_s,
                "server_compute_s": tail_s,
                "server_answer_s": answer_s,
                **more,
            }
        )

    return make


@pytest.fixture
def make_sample(remote_event):
    """Return `make(latency_s, due_s, as_asked)`: a frame that is all head."""

    def make(latency_s=0.01, due_s=100.0, *, as_asked=True):
        event = FrameEvent(
            at_s=due_s + latency_s,
            frame=0,
            captured_s=due_s,
            outcome="local",
            latency_s=latency_s,
            head_s=latency_s,
        )
        return Sample(event=event, due_s=due_s, as_asked=as_asked)

    return make


class StandIn:
    """Answers after `delay_s`, or when told; keeps what it was asked."""

    def __init__(self, delay_s):
        self.delay_s = delay_s
        self.due_s = []
        self.waiting = []
        self.most_waiting = 0

    def ask(self, due_s):
        future = asyncio.get_running_loop().create_future()
        self.due_s.append(due_s)
        self.waiting.append(future)
        self.most_waiting = max(self.most_waiting, len(self.waiting))
        if self.delay_s is not None:
            asyncio.get_running_loop().call_later(self.delay_s, self.answer, future, due_s)
        return future

    def answer(self, future, due_s):
        self.waiting.remove(future)
        now_s = time.monotonic()
        event = FrameEvent(
            at_s=now_s, frame=0, captured_s=due_s, outcome="local", latency_s=now_s - due_s, head_s=0.0
        )
        future.set_result(Sample(event=event, due_s=due_s, as_asked=True))


@pytest.fixture
def stand_in():
    """Return `StandIn(delay_s)`, a target; None: it never answers by itself."""
    return StandIn
