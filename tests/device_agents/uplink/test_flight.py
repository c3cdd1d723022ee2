"""What may leave the device, and what an answer means; no socket, no thread."""

import time

import numpy as np
import pytest

from isthmus.device_agents.bank import WidthBank
from isthmus.device_agents.device import Device, Encoded
from isthmus.device_agents.uplink.flight import Flight, plain_points
from isthmus.device_agents.uplink.peer import Capability
from isthmus.runtime.control import Decision
from isthmus.runtime.errors import PeerError
from isthmus.runtime.session import FullJitter, Session
from isthmus.runtime.wire import Answer, parse_request
from isthmus.runtime.wire import oip_pb2 as oip


class RecordingGuard:
    """Keeps what it is told instead of computing."""

    def __init__(self, session):
        self.session = session
        self.recalled = []
        self.ended = []

    def recall(self, frame, reason):
        if self.session.recall(frame, reason):
            self.recalled.append((frame, reason))

    def end(self, event, scores_c=None):
        if event is not None:
            self.ended.append(event)


class Owner:
    def __init__(self):
        self.forms = []
        self.notes = []

    def on_form(self, *, as_payload):
        self.forms.append(as_payload)

    def note(self, text):
        self.notes.append(text)


@pytest.fixture
def stage(tiny):
    class Stage:
        def __init__(self):
            self.session = Session(deadline_s=0.2)
            self.guard = RecordingGuard(self.session)
            self.owner = Owner()
            self.queue = []
            self.flight = Flight(
                manifest=tiny.manifest,
                model="tiny",
                session=self.session,
                guard=self.guard,
                owner=self.owner,
                most_in_flight=3,
                busy_backoff=FullJitter(base_s=30.0, cap_s=60.0),
            )

        def connect(self, *, payload=True, stream=True, lean=False):
            capability = Capability(
                server="test",
                stream=stream,
                payload=payload,
                metadata=oip.ModelMetadataResponse(name="tiny"),
                lean=lean,
            )
            self.flight.on_connected("there:1", capability)

        def encoded(self, nbytes=40):
            return Encoded(
                latent_chw=np.full((4, 4, 4), 9, np.uint8),
                channels=2,
                payload=bytes(nbytes),
                plain_nchw=None,
                head_s=0.001,
                encode_s=0.001,
            )

        def launch(self, nbytes=40, at_s=None):
            frame, _ = self.session.capture(time.monotonic() if at_s is None else at_s)
            self.session.take()
            self.session.queue(frame, answer_s=0.01)
            self.flight.launch(frame, self.encoded(nbytes), send=self.queue.append)
            return frame

        def answer(self, frame, outcome="ok", outputs=((0.0, 2.0, 1.0),), **fields):
            answer = Answer(
                frame_id=str(frame), outcome=outcome, outputs_nc=np.array(outputs, np.float32), **fields
            )
            self.flight.on_answer(frame, answer, time.monotonic())

    return Stage()


def test_a_frame_is_stamped_with_what_remains_of_its_budget_when_it_leaves(stage):
    stage.connect()
    frame = stage.launch()
    assert stage.queue == [frame]
    request = parse_request(stage.flight.message(frame, "0"))
    assert request.frame_id == "0"
    assert request.payloads == (bytes(40),)
    assert 0.1 < request.budget_s < 0.2
    estimate = stage.flight.estimate(time.monotonic())
    assert (estimate.in_flight, estimate.connected) == (1, True)
    assert 60 < estimate.overhead_bytes < 250


def test_lean_frames_name_their_model_once_a_connection(stage):
    sizes = []
    for _ in range(2):
        stage.connect(lean=True)
        messages = []
        for _ in range(2):
            frame = stage.launch()
            messages.append(stage.flight.message(frame, str(frame)))
            stage.answer(frame)
        assert [message.model_name for message in messages] == ["tiny", ""]
        requests = [parse_request(message) for message in messages]
        assert all(request.lean and request.payloads == (bytes(40),) for request in requests)
        assert all(0.1 < request.budget_s < 0.2 for request in requests)
        sizes.append(messages[1].ByteSize() - 40)
    estimate = stage.flight.estimate(time.monotonic())
    # IP, TCP, HTTP/2 and gRPC add 66; a frame's number may have six digits.
    assert estimate.overhead_bytes == pytest.approx(max(sizes) + 66, abs=6)
    stage.connect(lean=False)
    assert stage.flight.estimate(time.monotonic()).overhead_bytes > estimate.overhead_bytes + 40


def test_plain_latents_go_out_whole(stage, tiny, tiny_images):
    stage.connect(payload=False, stream=False)
    assert stage.owner.forms == [False]
    frame, _ = stage.session.capture(time.monotonic())
    stage.session.take()
    stage.session.queue(frame, answer_s=0.01)
    decision = Decision(
        action="send", point=tiny.manifest.points[-1], probe=False, expected_utility=1.0, reason=""
    )
    encoded = Device(tiny, WidthBank(tiny)).compute(decision, tiny_images[0][0], False)
    stage.flight.launch(frame, encoded, send=stage.queue.append)
    request = parse_request(stage.flight.message(frame, "0"))
    np.testing.assert_array_equal(request.latent_nchw, encoded.plain_nchw)


def test_an_answer_ends_its_frame_once_and_teaches_the_estimator(stage):
    stage.connect()
    frame = stage.launch()
    stage.flight.message(frame, "0")
    stage.answer(frame, queue_s=0.001, compute_s=0.002)
    stage.answer(frame, queue_s=0.001, compute_s=0.002)
    assert [(event.outcome, event.answer) for event in stage.guard.ended] == [("remote", 1)]
    assert stage.flight.server_s == pytest.approx(0.003)
    assert stage.flight.estimate(time.monotonic()).in_flight == 0


def test_an_answer_to_a_frame_the_device_ended_only_feeds_the_estimator(stage):
    stage.connect()
    frame = stage.launch()
    stage.flight.message(frame, "0")
    stage.session.recall(frame)
    stage.session.device(frame, time.monotonic(), "exit", 1)
    assert stage.flight.estimate(time.monotonic()).rtt_s is None
    stage.answer(frame)
    assert stage.guard.ended == []
    assert stage.flight.estimate(time.monotonic()).rtt_s is not None


def test_nothing_is_sent_without_a_connection(stage):
    frame = stage.launch()
    assert stage.queue == []
    assert stage.guard.recalled == [(frame, "the connection was lost")]


def test_the_credit_bounds_what_is_unanswered(stage):
    stage.connect()
    sent = [stage.launch() for _ in range(3)]
    for frame in sent:
        assert stage.flight.message(frame, "id") is not None
    refused = stage.launch()
    assert stage.queue == sent
    assert stage.guard.recalled == [(refused, "3 frames (120 B) are unanswered")]
    stage.answer(sent[0])
    assert stage.launch() in stage.queue


def test_the_credit_bounds_bytes_but_lets_one_frame_through(stage):
    stage.connect()
    large = stage.launch(nbytes=3 << 20)
    refused = stage.launch(nbytes=40)
    assert stage.queue == [large]
    assert stage.guard.recalled[0][0] == refused
    too_large = stage.launch(nbytes=4 << 20)
    assert (too_large, "4194304 bytes do not fit a message of 4194304") in stage.guard.recalled


def test_a_frame_whose_deadline_passed_in_our_queue_is_not_sent_and_frees_its_credit(stage):
    stage.connect()
    stale = stage.launch(at_s=time.monotonic() - 0.3)
    assert stage.flight.message(stale, "0") is None
    assert stage.guard.recalled == [(stale, "the link did not take it in time")]
    recalled = stage.launch()
    stage.guard.recall(recalled, "guard")
    assert stage.flight.message(recalled, "1") is None
    assert [stage.launch() for _ in range(3)] == stage.queue[2:]
    # Those three alone: they wait here, and the link is not done before it has taken them.
    assert stage.flight.estimate(time.monotonic()).in_flight == 3


def test_a_lost_connection_recalls_everything_in_flight_and_starts_afresh(stage):
    stage.connect()
    frames = [stage.launch() for _ in range(3)]
    stage.flight.message(frames[0], "id")
    stage.flight.on_down("there:1", "UNAVAILABLE: gone")
    assert [frame for frame, _ in stage.guard.recalled] == frames
    assert not stage.flight.estimate(time.monotonic()).connected
    stage.flight.on_down("there:1", "UNAVAILABLE: gone")
    assert len([note for note in stage.owner.notes if "gone" in note]) == 1
    stage.connect()
    assert stage.flight.connections == 2
    assert stage.launch() in stage.queue


@pytest.mark.parametrize("outcome", ["busy", "failed", "expired"])
def test_a_frame_the_server_does_not_answer_is_answered_here_at_once(stage, outcome):
    stage.connect()
    frame = stage.launch()
    stage.flight.message(frame, "0")
    stage.answer(frame, outcome, np.empty((0, 0)), error="out of memory" if outcome == "failed" else "")
    assert stage.guard.recalled == [(frame, f"the server says {outcome}")]
    # Only a busy server is left alone for a while.
    assert stage.flight.estimate(time.monotonic()).connected is (outcome != "busy")
    assert any("out of memory" in note for note in stage.owner.notes) is (outcome == "failed")


@pytest.mark.parametrize(
    "outputs", [((1.0, 2.0),), ((np.nan, 1.0, 2.0),), ((0, 1, 2), (0, 1, 2)), ((np.inf, 0, 0),)]
)
def test_an_answer_that_cannot_be_one_is_not_used(stage, outputs):
    stage.connect()
    frame = stage.launch()
    stage.flight.message(frame, "0")
    stage.answer(frame, outputs=outputs)
    assert stage.guard.ended == []
    assert stage.guard.recalled == [(frame, "the server's answer cannot be used")]
    assert any("are not used" in note for note in stage.owner.notes)


def test_a_server_with_another_bundle_is_refused(stage):
    metadata = oip.ModelMetadataResponse(name="tiny")
    metadata.inputs.add(name="latent", datatype="UINT8", shape=[-1, 4, 8, 8])
    with pytest.raises(PeerError, match="takes latents"):
        stage.flight.on_connected(
            "there:1", Capability(server="x", stream=True, payload=True, metadata=metadata)
        )
    assert not stage.flight.connected


def test_a_payload_made_for_the_server_before_goes_out_plain(stage, tiny):
    stage.connect()
    encoded = stage.encoded(nbytes=40)
    stage.flight.on_down("there:1", "gone")
    stage.connect(payload=False)
    frame, _ = stage.session.capture(time.monotonic())
    stage.session.take()
    stage.session.queue(frame, answer_s=0.01)
    stage.flight.launch(frame, encoded, send=stage.queue.append)
    request = parse_request(stage.flight.message(frame, "0"))
    assert request.payloads == ()
    latent = request.latent_nchw[0]
    assert (latent[:2] == 9).all()
    assert [int(latent[channel, 0, 0]) for channel in (2, 3)] == list(tiny.manifest.latent.zero_points[2:])
    assert stage.session.remote(frame, time.monotonic(), 1).payload_bytes == 64


def test_how_busy_the_server_is_comes_with_its_answers(stage):
    stage.connect()
    assert stage.flight.server_load is None
    for said, known in [(40, 0.4), (None, 0.4), (250, 1.0), (-3, 0.0)]:
        frame = stage.launch()
        stage.flight.message(frame, "id")
        stage.answer(frame, load_pct=said)
        assert stage.flight.server_load == known
    stage.connect()
    assert stage.flight.server_load is None


def test_a_connection_that_is_lost_before_any_answer_is_news_once(stage):
    for _ in range(4):
        stage.connect()
        stage.flight.on_down("there:1", "INVALID_ARGUMENT: another bundle")
    assert [note.split(" ")[0] for note in stage.owner.notes] == ["connected", "no"]
    stage.connect()
    frame = stage.launch()
    stage.flight.message(frame, "id")
    stage.answer(frame)
    stage.flight.on_down("there:1", "INVALID_ARGUMENT: another bundle")
    assert [note.split(" ")[0] for note in stage.owner.notes] == ["connected", "no", "connected", "no"]


def test_plain_latents_cost_the_same_at_every_point(tiny):
    table = plain_points(tiny)
    assert {record.bytes_mean for record in table.records} == {64.0}
    assert [record.utility for record in table.records] == [r.utility for r in tiny.points.records]
    assert {record.bytes_max for record in tiny.points.records} != {64}
