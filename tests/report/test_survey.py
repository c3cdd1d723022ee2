"""The first look at a log: everything but the frames, wherever the file was cut off."""

import json
from pathlib import Path

import pytest

from isthmus.report import load_runs, summarise
from isthmus.report.survey import survey
from isthmus.runtime.errors import ArtifactError
from isthmus.runtime.events import read_events


@pytest.fixture(scope="module")
def whole(synthetic_run):
    return (synthetic_run.folder / "events.jsonl").read_bytes()


def test_frames_are_counted_and_the_rest_is_read(synthetic_run, whole):
    found = survey(synthetic_run.folder / "events.jsonl")
    assert (found.frames, len(found.links), len(found.runs), len(found.ends)) == (1200, 41, 1, 1)
    assert found.size_bytes == found.cuts[-1].byte == len(whole)
    assert found.cuts[-1].line == whole.count(b"\n") + 1
    assert found.span_s is not None
    assert found.span_s[0] == pytest.approx(5000.0)


def test_lines_that_another_writer_wrote_are_told_apart_too(synthetic_run, whole, tmp_path):
    foreign = tmp_path / "foreign.jsonl"
    rows = [json.loads(line) for line in whole.splitlines()]
    foreign.write_text("".join(json.dumps(dict(reversed(row.items()))) + "\n" for row in rows))
    ours, theirs = survey(synthetic_run.folder / "events.jsonl"), survey(foreign)
    assert (theirs.frames, theirs.span_s, theirs.runs) == (ours.frames, ours.span_s, ours.runs)
    assert theirs.links.at_s.tolist() == ours.links.at_s.tolist()
    runs = load_runs([foreign])
    assert summarise(runs[0]).accounting.outcomes == synthetic_run.outcomes


@pytest.mark.parametrize("tail", [b"", bytes(4096)], ids=["short", "zero bytes"])
@pytest.mark.parametrize("back", [1, 2, 40, 200, 5_000, 100_000])
def test_a_log_cut_off_anywhere_is_reported_up_to_its_last_whole_line(whole, tmp_path: Path, back, tail):
    cut = tmp_path / "cut.jsonl"
    cut.write_bytes(whole[:-back] + tail)
    told = [event for event in read_events(cut) if type(event).__name__ == "FrameEvent"]
    (log,) = load_runs([cut])
    assert log.tally.frames == len(told) > 0
    assert log.tally.first_s == min(event.captured_s for event in told)
    summary = summarise(log)
    assert sum(summary.accounting.outcomes.values()) == len(told)
    # Without its end of line the last event may still be whole; anything else is half a line, and is told.
    half = bool(whole[:-back].rpartition(b"\n")[2]) and back > 1
    assert log.torn == half
    assert any("middle of a line" in note for note in summary.notes) == half


def test_a_bad_line_is_named_by_its_number_in_every_pass(whole, tmp_path):
    lines = whole.splitlines(keepends=True)
    bad = tmp_path / "bad.jsonl"
    bad.write_bytes(b"".join(lines[:700]) + b'{"type":"frame","frame":"x"}\n' + b"".join(lines[700:]))
    with pytest.raises(ArtifactError, match=r"bad\.jsonl:701: not an event"):
        load_runs([bad])
    bad.write_bytes(b"".join(lines[:3]) + b'{"type":"flight"}\n' + b"".join(lines[3:]))
    with pytest.raises(ArtifactError, match=r"bad\.jsonl:4: not an event"):
        survey(bad)
