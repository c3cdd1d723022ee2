"""The account of a run, with plain numbers for time."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from isthmus.runtime.bundle import OperatingPoint
from isthmus.runtime.session import Session

POINT = OperatingPoint(1, 4)


def _sent(
    session: Session, *, at_s: float = 0.0, answer_s: float | None = 0.01, truth: int | None = None
) -> int:
    frame, superseded = session.capture(at_s, truth=truth)
    assert superseded is None
    assert session.take() == frame
    session.decided(frame, point=POINT, reason="widest that fits")
    assert session.computed(frame, head_s=0.002, encode_s=0.001)
    assert session.queue(frame, answer_s=answer_s)
    assert session.sent(frame, at_s + 0.004, 300)
    return frame


def test_an_answer_in_time_is_remote_and_carries_every_part():
    session = Session(deadline_s=0.1)
    frame = _sent(session, truth=2)
    event = session.remote(frame, 0.05, 2, server_queue_s=0.001, server_compute_s=0.002)
    assert event is not None
    assert (event.outcome, event.answer, event.truth, event.point) == ("remote", 2, 2, POINT)
    assert event.latency_s == pytest.approx(0.05)
    assert event.remote_s == pytest.approx(0.046)
    assert (event.payload_bytes, event.head_s, event.encode_s) == (300, 0.002, 0.001)
    assert (event.server_queue_s, event.server_compute_s) == (0.001, 0.002)
    assert session.outcomes["remote"] == session.captured == 1


def test_the_newest_captured_frame_wins():
    session = Session(deadline_s=0.1)
    first, _ = session.capture(0.0)
    second, superseded = session.capture(0.03)
    assert superseded is not None
    assert (superseded.frame, superseded.outcome, superseded.latency_s) == (first, "dropped", None)
    assert "newer" in superseded.reason
    assert session.take() == second
    assert session.take() is None


def test_in_a_queue_frames_wait_in_their_order_and_the_oldest_makes_room():
    session = Session(deadline_s=0.1, queue_limit=2)
    first, none = session.capture(0.0)
    second, _ = session.capture(0.01)
    assert none is None
    third, dropped = session.capture(0.02)
    assert dropped is not None
    assert (dropped.frame, dropped.outcome, dropped.reason) == (
        first,
        "dropped",
        "2 newer frames were waiting",
    )
    assert session.drop(second, 0.03, "test") is not None
    assert session.take() == third
    assert session.take() is None
    assert session.open_frames == 1


def test_a_frame_that_is_being_computed_is_not_superseded():
    session = Session(deadline_s=0.1)
    session.capture(0.0)
    session.take()
    assert session.capture(0.03)[1] is None
    assert session.open_frames == 2


def test_the_device_is_asked_when_the_guard_is_due_and_its_answer_ends_the_frame():
    session = Session(deadline_s=0.1)
    frame = _sent(session, answer_s=0.01)
    assert session.next_due_s() == pytest.approx(0.09)
    assert session.due(0.0899) == ([], [])
    assert session.due(0.0901) == ([frame], [])
    assert session.due(0.095) == ([], [])
    event = session.device(frame, 0.097, "exit", 1)
    assert event is not None
    assert (event.outcome, event.payload_bytes) == ("exit", 300)
    assert session.remote(frame, 0.2, 2) is None
    assert session.outcomes == {"remote": 0, "exit": 1, "local": 0, "late": 0, "dropped": 0}


def test_the_server_may_still_win_while_the_device_answers():
    session = Session(deadline_s=0.1)
    frame = _sent(session)
    session.due(0.09)
    event = session.remote(frame, 0.095, 2)
    assert event is not None
    assert event.outcome == "remote"
    assert session.device(frame, 0.097, "exit", 1) is None


def test_an_answer_after_the_deadline_is_late_whoever_gave_it():
    session = Session(deadline_s=0.1)
    remote, device = _sent(session, answer_s=None), _sent(session, at_s=1.0)
    first = session.remote(remote, 0.101, 2)
    session.due(1.09)
    second = session.device(device, 1.11, "exit", 2)
    assert first is not None
    assert second is not None
    assert (first.outcome, second.outcome) == ("late", "late")
    assert first.latency_s == pytest.approx(0.101)


def test_without_a_device_answer_a_silent_frame_is_dropped_in_the_end():
    session = Session(deadline_s=0.1, give_up_s=2.0)
    _sent(session, answer_s=None)
    assert session.next_due_s() == pytest.approx(2.1)
    assert session.due(2.09) == ([], [])
    answer, ended = session.due(2.1)
    assert answer == []
    assert [event.outcome for event in ended] == ["dropped"]
    assert session.next_due_s() is None


def test_a_peer_cannot_answer_what_was_never_sent_or_twice():
    session = Session(deadline_s=0.1)
    waiting, _ = session.capture(0.0)
    assert session.remote(waiting, 0.01, 0) is None
    assert session.remote(77, 0.01, 0) is None
    assert session.take() == waiting
    session.queue(waiting, answer_s=None)
    assert session.remote(waiting, 0.01, 0) is None
    session.sent(waiting, 0.01, 10)
    assert session.remote(waiting, 0.02, 0) is not None
    assert session.remote(waiting, 0.03, 0) is None
    assert sum(session.outcomes.values()) == session.captured == 1


def test_a_recalled_frame_must_not_be_sent_any_more():
    session = Session(deadline_s=0.1)
    frame, _ = session.capture(0.0)
    session.take()
    assert session.recall(frame) is False
    session.queue(frame, answer_s=0.01)
    assert session.unanswered() == [frame]
    assert session.recall(frame) is True
    assert session.recall(frame) is False
    assert session.sent(frame, 0.05, 300) is False
    event = session.device(frame, 0.06, "local", 1)
    assert event is not None
    assert (event.outcome, event.payload_bytes) == ("local", 0)


def test_closing_ends_every_phase_once_and_later_steps_change_nothing():
    session = Session(deadline_s=0.1)
    sent = _sent(session)
    computing, _ = session.capture(0.01)
    session.take()
    session.capture(0.02)
    ended = session.close(0.03, "the run ended")
    assert [event.outcome for event in ended] == ["dropped"] * 3
    assert ended[0].reason == "widest that fits; the run ended"
    assert session.computed(computing, head_s=0.1, encode_s=None) is False
    assert session.queue(computing, answer_s=None) is False
    assert session.remote(sent, 0.04, 1) is None
    assert session.device(sent, 0.04, "exit", 1) is None
    assert session.take() is None
    assert session.close(0.05, "again") == []
    assert session.captured == sum(session.outcomes.values()) == 3


class _AnyOrder(RuleBasedStateMachine):
    """Every order of captures, answers, recalls and losses."""

    queue_limit: int | None = None

    def __init__(self) -> None:
        super().__init__()
        self.session = Session(deadline_s=0.1, give_up_s=0.5, queue_limit=self.queue_limit)
        self.now_s = 0.0
        self.ended: list[int] = []

    def _note(self, *events: object) -> None:
        self.ended += [event.frame for event in events if event is not None]  # type: ignore[attr-defined]

    def _frame(self, data: st.DataObject) -> int:
        # One beyond the last captured frame as well: a peer may name anything.
        return data.draw(st.integers(0, self.session.captured))

    @rule(step_s=st.floats(0.0, 0.3))
    def wait(self, step_s):
        self.now_s += step_s
        answer, given_up = self.session.due(self.now_s)
        self._note(*given_up)
        for frame in answer[::2]:
            self._note(self.session.device(frame, self.now_s, "exit", 1))

    @rule()
    def capture(self):
        self._note(self.session.capture(self.now_s)[1])

    @rule(data=st.data(), guarded=st.booleans())
    def compute_and_send(self, data, guarded):
        frame = self.session.take()
        if frame is None:
            return
        self.session.computed(frame, head_s=0.0, encode_s=0.0)
        self.session.queue(frame, answer_s=0.05 if guarded else None)
        if data.draw(st.booleans()):
            self.session.sent(frame, self.now_s, 100)

    @rule(data=st.data())
    def remote(self, data):
        self._note(self.session.remote(self._frame(data), self.now_s, 1))

    @rule(data=st.data())
    def device(self, data):
        self._note(self.session.device(self._frame(data), self.now_s, "local", 1))

    @rule(data=st.data())
    def drop(self, data):
        self._note(self.session.drop(self._frame(data), self.now_s, "test"))

    @rule()
    def lose_the_link(self):
        for frame in self.session.unanswered():
            assert self.session.recall(frame)

    @precondition(lambda self: self.session.captured > 3)
    @rule()
    def close(self):
        self._note(*self.session.close(self.now_s, "test"))
        assert self.session.open_frames == 0

    @invariant()
    def every_frame_is_open_or_has_ended_once(self):
        assert len(self.ended) == len(set(self.ended)) == sum(self.session.outcomes.values())
        assert self.session.captured == len(self.ended) + self.session.open_frames


TestAnyOrder = _AnyOrder.TestCase
TestAnyOrder.settings = settings(max_examples=60, stateful_step_count=30)


class _AnyOrderInAQueue(_AnyOrder):
    queue_limit = 3


TestAnyOrderInAQueue = _AnyOrderInAQueue.TestCase
TestAnyOrderInAQueue.settings = settings(max_examples=30, stateful_step_count=30)
