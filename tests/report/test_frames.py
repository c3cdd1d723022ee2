from pathlib import Path

import pytest

from isthmus.report.frames import NOTHING, FrameDecoder, Frames
from isthmus.runtime.bundle import OperatingPoint
from isthmus.runtime.errors import ArtifactError
from isthmus.runtime.event_lines import Lines
from isthmus.runtime.events import FrameEvent


def columns_of(*events: FrameEvent) -> tuple[FrameDecoder, Frames]:
    decoder = FrameDecoder()
    frames = decoder.columns(events)
    assert frames is not None
    return decoder, frames


def test_frames_are_ordered_by_capture_not_by_when_they_ended() -> None:
    late = FrameEvent(at_s=9.0, frame=0, captured_s=1.0, outcome="late", latency_s=8.0)
    early = FrameEvent(at_s=2.5, frame=1, captured_s=2.0, outcome="exit", latency_s=0.5)
    frames = columns_of(early, late)[1].in_order()
    assert frames.frame.tolist() == [0, 1]
    assert frames.time_s("latency_s").tolist() == [8.0, 0.5]


def test_what_is_absent_stays_absent() -> None:
    frames = columns_of(FrameEvent(at_s=1.0, frame=0, captured_s=1.0, outcome="dropped"))[1]
    assert frames.answer.tolist() == frames.truth.tolist() == [NOTHING]
    assert frames.point.tolist() == [0]
    assert str(frames.time_s("latency_s").tolist()) == str(frames.time_s("head_s").tolist()) == "[nan]"


def test_points_and_outcomes_select_frames() -> None:
    small, large = OperatingPoint(0, 4), OperatingPoint(1, 8)
    decoder, frames = columns_of(
        FrameEvent(at_s=1.0, frame=0, captured_s=0.0, outcome="remote", point=small),
        FrameEvent(at_s=2.0, frame=1, captured_s=1.0, outcome="exit", point=large),
        FrameEvent(at_s=3.0, frame=2, captured_s=2.0, outcome="local"),
        FrameEvent(at_s=4.0, frame=3, captured_s=3.0, outcome="late", point=small),
    )
    assert decoder.points == [None, small, large]
    assert frames.point.tolist() == [1, 2, 0, 1]
    assert frames.in_time().tolist() == [True, True, True, False]


def test_reasons_that_differ_in_quantities_only_count_together() -> None:
    def at(frame: int, reason: str) -> FrameEvent:
        return FrameEvent(at_s=frame, frame=frame, captured_s=frame, outcome="exit", reason=reason)

    decoder, frames = columns_of(
        at(0, "p=0.93 at 12.5 kB/s, 20 ms"),
        at(1, "p=1.00 at 862 B/s, 1.5 s"),
        at(2, "link down"),
        at(3, "width w2 of 4 seems best"),
        at(4, "width w3 of 4 seems best"),
    )
    assert decoder.reasons == [
        "p=# at #, #", "link down", "width w2 of # seems best", "width w3 of # seems best",
    ]  # fmt: skip
    assert frames.reason.tolist() == [0, 0, 1, 2, 3]
    assert decoder.examples[0] == "p=0.93 at 12.5 kB/s, 20 ms"


@pytest.mark.parametrize(
    ("field", "value"),
    [("captured_s", "1e300"), ("at_s", "-1e13"), ("frame", "-1"), ("frame", "99999999999999999999"),
     ("payload_bytes", "-5"), ("truth", "9999999999"), ("outcome", '"lost"')],
)  # fmt: skip
def test_a_line_that_no_agent_can_have_written_is_named(tmp_path: Path, field: str, value: str) -> None:
    facts = {"at_s": "2.0", "frame": "1", "captured_s": "1.0", "outcome": '"exit"'} | {field: value}
    line = '{"type":"frame",' + ",".join(f'"{name}":{text}' for name, text in facts.items()) + "}\n"
    with pytest.raises(ArtifactError, match=r"a\.jsonl:7: not an event"):
        FrameDecoder().decode(Lines(7, 0, line.encode()), tmp_path / "a.jsonl")
