"""Results: what they hold, and that whoever takes them slowly holds up nobody."""

import json
import os
import threading

import numpy as np
import pytest

from isthmus.device_agents.delivery.results import Handout, LineSink, Outbox, Result, make_result, open_sink
from isthmus.runtime.bundle import OperatingPoint
from isthmus.runtime.errors import ArtifactError, InputError
from isthmus.runtime.events import FrameEvent


class GatedSink:
    """Takes results once the gate is open."""

    def __init__(self, error=None):
        self.gate, self.taken, self.closed, self.error = threading.Event(), [], False, error
        self.entered = threading.Event()

    def put(self, result):
        self.entered.set()
        assert self.gate.wait(5)
        if self.error is not None:
            raise self.error
        self.taken.append(result)

    def close(self):
        self.closed = True


def _event(**fields):
    merged = {"at_s": 1.0, "frame": 3, "captured_s": 0.9, "outcome": "remote", "answer": 1, **fields}
    return FrameEvent(**merged)


def _result(frame=0):
    return Result(frame=frame, captured_unix_s=0.0, outcome="exit")


def test_a_result_names_its_class_and_holds_the_servers_softmax():
    event = _event(latency_s=0.1, point=OperatingPoint(2, 4), payload_bytes=90, truth=1, reason="why")
    result = make_result(event, np.array([1.0, 1001.0, 1001.0], np.float32), ("a", "b", "c"))
    assert (result.frame, result.label, result.answer, result.truth) == (3, "b", 1, 1)
    # Scores of any size: the softmax is of their differences.
    assert result.probabilities == pytest.approx((0.0, 0.5, 0.5))
    assert (result.latency_s, result.payload_bytes, result.reason) == (0.1, 90, "why")


def test_a_frame_without_an_answer_has_no_label():
    result = make_result(_event(outcome="dropped", answer=None), None, ("a", "b"))
    assert (result.answer, result.label, result.probabilities) == (None, None, None)


def test_lines_leave_out_what_is_not_known(tmp_path):
    file = tmp_path / "results.jsonl"
    outbox = Outbox(open_sink(str(file)), note=lambda text: None)
    outbox.put(make_result(_event(latency_s=0.1), None, ("a", "b")))
    outbox.put(_result(4))
    outbox.close()
    first, second = (json.loads(line) for line in file.read_text().splitlines())
    assert (first["label"], first["latency_s"]) == ("b", 0.1)
    assert second == {"frame": 4, "captured_unix_s": 0.0, "outcome": "exit"}
    assert outbox.lost == 0


def test_standard_output_is_a_place_and_stays_open(capfd):
    outbox = Outbox(open_sink("-"), note=lambda text: None)
    outbox.put(_result(1))
    outbox.close()
    print("after")
    assert [line[:10] for line in capfd.readouterr().out.splitlines()] == ['{"frame":1', "after"]


def test_a_slow_reader_costs_results_which_are_counted_and_said_once():
    sink, notes = GatedSink(), []
    outbox = Outbox(sink, note=notes.append, limit=2)
    outbox.put(_result(0))
    assert sink.entered.wait(5)
    for frame in range(1, 6):
        outbox.put(_result(frame))
    assert outbox.lost == 3
    assert notes == ["results are being lost: they are taken too slowly; the run goes on without them"]
    sink.gate.set()
    outbox.close()
    assert [result.frame for result in sink.taken] == [0, 1, 2]
    assert sink.closed


def test_a_reader_that_never_reads_again_does_not_keep_the_run_from_ending(monkeypatch):
    monkeypatch.setattr("isthmus.device_agents.delivery.results._CLOSE_S", 0.05)
    sink = GatedSink()
    outbox = Outbox(sink, note=lambda text: None, limit=1)
    outbox.put(_result(0))
    assert sink.entered.wait(5)
    outbox.put(_result(1))
    outbox.close()
    # The one that the reader was given and did not take, and the one behind it.
    assert outbox.lost == 2
    sink.gate.set()
    outbox._thread.join(5)
    assert [result.frame for result in sink.taken] == [0]
    assert sink.closed


def test_a_pipe_whose_reader_left_is_said_once():
    notes = []
    read, write = os.pipe()
    os.close(read)
    sink = LineSink("-")
    sink._descriptor = write
    outbox = Outbox(sink, note=notes.append)
    for frame in range(3):
        outbox.put(_result(frame))
    outbox.close()
    os.close(write)
    assert outbox.lost == 3
    assert notes == ["results are being lost: Broken pipe; the run goes on without them"]


def test_places_that_cannot_be_are_refused(tmp_path):
    with pytest.raises(ArtifactError, match=r"No such file or directory; choose another --results"):
        open_sink(str(tmp_path / "none" / "file"))
    with pytest.raises(InputError, match="give -, a file, or mqtt://HOST"):
        open_sink("http://localhost/x")


def test_nothing_is_made_for_nobody():
    handout = Handout(("a",), target=None, callback=None, note=lambda text: None)
    # An answer beyond the labels would be an error if a result were made of it.
    handout.give(_event(answer=7), None)
    handout.close()
    assert handout.lost == 0
    seen = []
    Handout(("a", "b"), target=None, callback=seen.append, note=lambda text: None).give(_event(), None)
    assert [result.label for result in seen] == ["b"]
