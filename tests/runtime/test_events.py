"""The event log: whole lines whatever happens to disk and process."""

import resource

import msgspec
import pytest

from isthmus.runtime.bundle import OperatingPoint
from isthmus.runtime.errors import ArtifactError
from isthmus.runtime.events import (
    EndEvent,
    EventLog,
    FrameEvent,
    LinkEvent,
    RunEvent,
    ShapeEvent,
    read_events,
)


@pytest.fixture
def some_events():
    return [
        RunEvent(
            at_s=1.0,
            unix_s=2.0,
            bundle="tiny",
            bundle_digest="00",
            source="digits",
            policy="local",
            server="127.0.0.1:1",
            deadline_s=0.15,
            fps=30.0,
            widths=(0.5, 1.0),
            labels=("a", "b"),
            teacher_utility=0.9,
            isthmus_version="0",
        ),
        FrameEvent(at_s=1.5, frame=0, captured_s=1.4, outcome="remote", point=OperatingPoint(1, 4), answer=1),
        LinkEvent(at_s=2.0, connected=True, rate_bytes_per_s=None, rtt_s=0.01, backlog_bytes=0),
        ShapeEvent(at_s=2.0, rate_bytes_per_s=0.0),
        EndEvent(at_s=3.0, captured=1, outcomes={"remote": 1}),
    ]


@pytest.fixture
def written(tmp_path, some_events):
    path = tmp_path / "events.jsonl"
    log = EventLog(path)
    for event in some_events:
        log.write(event)
    log.close()
    return path


def test_events_come_back_as_they_were_written(written, some_events):
    assert list(read_events(written)) == some_events


def test_a_torn_last_line_is_ignored_but_a_torn_line_before_it_is_not(written, some_events):
    whole = written.read_bytes()
    written.write_bytes(whole[:-20])
    assert list(read_events(written)) == some_events[:-1]
    lines = whole.splitlines(keepends=True)
    written.write_bytes(lines[0] + lines[1][:-9] + b"\n" + lines[2])
    with pytest.raises(ArtifactError, match=r"events\.jsonl:2: not an event"):
        list(read_events(written))


def test_another_schema_version_is_refused(written):
    written.write_bytes(written.read_bytes().replace(b'"schema_version":1', b'"schema_version":9'))
    with pytest.raises(ArtifactError, match="event schema 9, this Isthmus reads 1"):
        list(read_events(written))


def test_a_missing_log_and_one_that_cannot_be_opened_are_one_line(tmp_path):
    with pytest.raises(ArtifactError, match=r"none\.jsonl: No such file.*isthmus agent"):
        list(read_events(tmp_path / "none.jsonl"))
    with pytest.raises(ArtifactError, match="choose another --events file"):
        EventLog(tmp_path / "no-folder" / "events.jsonl")


def test_a_disk_that_fills_up_in_mid_line_leaves_whole_lines(tmp_path, some_events):
    path = tmp_path / "events.jsonl"
    log = EventLog(path)
    frame = some_events[1]
    room = int(3.5 * (len(msgspec.json.encode(frame)) + 1))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, hard))
    try:
        for _ in range(6):
            log.write(frame)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    lost = log.lost
    assert lost == 3
    assert log.failed is not None
    assert "events.jsonl" in log.failed
    # Once there is room again, the log goes on.
    log.write(some_events[4])
    log.close()
    assert list(read_events(path)) == [frame] * (6 - lost) + [some_events[4]]
