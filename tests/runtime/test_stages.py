"""The table of a frame's stages: complete, in order, and filling the latency of every frame that ended."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.runtime.events import STAGES, FrameEvent
from isthmus.runtime.session import Session

BY_NAME = {stage.name: stage for stage in STAGES}
durations = st.floats(0.0, 0.2)


def total_s(event):
    return sum(stage.seconds(event) or 0.0 for stage in STAGES)


def test_every_stage_has_a_name_of_its_own_and_a_meaning():
    assert len(BY_NAME) == len(STAGES)
    assert all(stage.meaning for stage in STAGES)
    assert [stage.where for stage in STAGES].count("server") == 4
    empty = FrameEvent(at_s=0.0, frame=0, captured_s=0.0, outcome="dropped")
    assert [stage.seconds(empty) for stage in STAGES] == [None] * len(STAGES)


def test_every_duration_of_a_frame_is_in_some_stage():
    wholes = {"latency_s", "remote_s", "at_s", "captured_s", "server_received_s"}
    names = [name for name in FrameEvent.__struct_fields__ if name.endswith("_s") and name not in wholes]
    for name in names:
        given_facts = {"remote_s": 5.0, "server_queue_s": 1.0, name: 1.0}
        event = FrameEvent(at_s=0.0, frame=0, captured_s=0.0, outcome="remote", **given_facts)
        without = {key: value for key, value in given_facts.items() if key != name}
        other = FrameEvent(at_s=0.0, frame=0, captured_s=0.0, outcome="remote", **without)
        changed = [stage.name for stage in STAGES if stage.seconds(event) != stage.seconds(other)]
        assert changed, name


def test_a_log_of_before_the_stages_is_read_as_far_as_it_goes():
    line = (
        b'{"type":"frame","at_s":2.0,"frame":1,"captured_s":1.9,"outcome":"remote","latency_s":0.1,'
        b'"head_s":0.01,"encode_s":0.002,"remote_s":0.08,"server_queue_s":0.02,"server_compute_s":0.03}'
    )
    event = msgspec.json.decode(line, type=FrameEvent)
    known = {stage.name: stage.seconds(event) for stage in STAGES if stage.seconds(event) is not None}
    # Decoding was in the queue then.
    assert known == {
        "head": 0.01,
        "codec": 0.002,
        "network": pytest.approx(0.03),
        "server queue": 0.02,
        "tail": 0.03,
    }


def test_what_is_not_known_is_left_out_of_the_line():
    event = FrameEvent(at_s=2.0, frame=1, captured_s=1.9, outcome="local", latency_s=0.1)
    assert b"null" not in msgspec.json.encode(event)
    assert msgspec.json.decode(msgspec.json.encode(event), type=FrameEvent) == event


def test_a_server_that_says_nothing_is_one_stage():
    event = FrameEvent(at_s=1.0, frame=0, captured_s=0.0, outcome="remote", remote_s=0.5)
    assert BY_NAME["remote"].seconds(event) == 0.5
    assert BY_NAME["network"].seconds(event) is None


class Frame:
    """One frame through a real session on a clock of the test's own."""

    def __init__(self):
        self.session = Session(deadline_s=1.0)
        self.now_s = 100.0
        self.frame, _ = self.session.capture(self.now_s)
        self.session.take()

    def after(self, seconds):
        self.now_s += seconds
        return self.now_s

    def compute(self, wait_s, handover_s, head_s, exit_s, encode_s):
        self.session.began(self.frame, self.after(wait_s))
        self.session.computed(
            self.frame,
            head_s=head_s,
            encode_s=encode_s,
            exit_s=exit_s,
            handover_s=handover_s,
            now_s=self.after(handover_s + head_s + exit_s + encode_s),
        )


@given(
    durations,
    durations,
    durations,
    durations,
    durations,
    durations,
    durations,
    st.lists(durations, min_size=4, max_size=4),
)
def test_a_frame_the_server_answered_is_filled(
    wait_s, handover_s, head_s, exit_s, encode_s, send_s, ways_s, there
):
    run = Frame()
    run.compute(wait_s, handover_s, head_s, exit_s, encode_s)
    run.session.queue(run.frame, answer_s=None)
    run.session.sent(run.frame, run.after(send_s), 100)
    decode_s, queue_s, tail_s, answer_s = there
    run.after(ways_s + sum(there))
    event = run.session.remote(
        run.frame,
        run.now_s,
        1,
        server_decode_s=decode_s,
        server_queue_s=decode_s + queue_s,
        server_compute_s=tail_s,
        server_answer_s=answer_s,
        server_received_s=5.0,
    )
    assert event.latency_s == pytest.approx(run.now_s - 100.0)
    assert total_s(event) == pytest.approx(event.latency_s, abs=1e-9)
    assert BY_NAME["network"].seconds(event) == pytest.approx(ways_s, abs=1e-9)
    assert BY_NAME["send"].seconds(event) == pytest.approx(send_s, abs=1e-9)
    assert event.vain_s is None


@given(durations, durations, durations, durations, durations, st.booleans())
def test_a_frame_the_device_answered_in_the_servers_stead_is_filled(
    wait_s, head_s, encode_s, send_s, answer_s, sent
):
    run = Frame()
    run.compute(wait_s, 0.0, head_s, 0.0, encode_s)
    run.session.queue(run.frame, answer_s=0.01)
    if sent:
        run.session.sent(run.frame, run.after(send_s), 100)
    assert run.session.recall(run.frame, "lost", now_s=run.after(0.05))
    event = run.session.device(run.frame, run.after(answer_s), "exit", 1)
    assert total_s(event) == pytest.approx(event.latency_s, abs=1e-9)
    assert event.vain_s == pytest.approx(0.05, abs=1e-9)
    assert event.answer_s == pytest.approx(answer_s, abs=1e-9)
    assert (event.send_s is not None) == sent


def test_a_frame_that_is_due_waited_in_vain_until_then():
    run = Frame()
    run.compute(0.0, 0.0, 0.1, 0.0, 0.1)
    run.session.queue(run.frame, answer_s=0.3)
    run.session.sent(run.frame, run.after(0.1), 100)
    answer, _ = run.session.due(run.after(0.45))
    assert answer == [run.frame]
    event = run.session.device(run.frame, run.after(0.1), "local", 1)
    assert event.vain_s == pytest.approx(0.45)
    assert total_s(event) == pytest.approx(event.latency_s)


def test_a_server_that_answers_while_the_device_does_was_not_waited_for_in_vain():
    run = Frame()
    run.compute(0.0, 0.0, 0.1, 0.0, 0.1)
    run.session.queue(run.frame, answer_s=0.3)
    run.session.sent(run.frame, run.now_s, 100)
    run.session.due(run.after(0.5))
    event = run.session.remote(run.frame, run.after(0.01), 1)
    assert event.vain_s is None
    assert event.remote_s == pytest.approx(0.51)
    assert total_s(event) == pytest.approx(event.latency_s)


def test_a_frame_the_device_answers_by_choice_is_filled():
    run = Frame()
    run.session.began(run.frame, run.after(0.02))
    run.session.computed(run.frame, head_s=0.05, encode_s=None, handover_s=0.01)
    event = run.session.device(run.frame, run.after(0.09), "exit", 1, answer_s=0.03)
    assert total_s(event) == pytest.approx(event.latency_s) == pytest.approx(0.11)
