"""Real files, written as agents, power cuts and logrotate leave them."""

import os
import time

import pytest

from isthmus.dashboard import follow
from isthmus.dashboard.follow import Follower
from isthmus.runtime.errors import InputError
from isthmus.runtime.events import FrameEvent, RunEvent, ShapeEvent


class Looker:
    """Looks again and again, always late enough to find new files."""

    def __init__(self, *paths):
        self.follower = Follower(paths)
        self.turns = 0

    def look(self):
        self.turns += 10
        return list(self.follower.grown(time.monotonic() + self.turns))

    def frames(self):
        return [e.frame for grown in self.look() for e in grown.events if isinstance(e, FrameEvent)]


@pytest.fixture
def looking():
    """Return `looking(*paths)`, a looker whose files are closed in the end."""
    made = []

    def make(*paths):
        made.append(Looker(*paths))
        return made[-1]

    yield make
    for looker in made:
        looker.follower.close()


def test_a_log_is_read_as_it_grows_a_torn_line_when_it_is_whole(log, events, looking):
    looker = looking(log)
    assert looker.look() == []  # not there yet
    whole = events.lines(events.run(), events.frame(101.0, 0), events.frame(101.1, 1))
    log.write_bytes(whole[:-20])
    assert looker.frames() == [0]
    assert looker.look() == []
    with log.open("ab") as file:
        file.write(whole[-20:])
    assert looker.frames() == [1]


def test_new_files_in_a_folder_and_below_it(log, events, looking):
    looker = looking(log.parent)
    log.write_bytes(events.lines(events.run()))
    (log.parent / "notes.txt").write_text("no log")
    below = log.parent / "b" / "events.jsonl"
    below.parent.mkdir()
    below.write_bytes(events.lines(events.run()))
    assert {grown.path for grown in looker.look()} == {log, below}


def test_a_rotated_log_loses_nothing(log, events, looking):
    looker = looking(log)
    log.write_bytes(events.lines(events.run(), events.frame(101.0, 0)))
    assert looker.frames() == [0]
    with log.open("ab") as file:
        file.write(events.lines(events.frame(101.1, 1)))
    log.rename(log.with_suffix(".1"))
    log.write_bytes(events.lines(events.frame(101.2, 2)))
    assert looker.frames() == [1]
    assert looker.frames() == [2]


def test_a_log_that_was_cut_to_nothing_begins_anew(log, events, looking):
    looker = looking(log)
    log.write_bytes(events.lines(events.run(), *(events.frame(101.0 + n, n) for n in range(20))))
    assert len(looker.frames()) == 20
    log.write_bytes(events.lines(events.run(), events.frame(501.0, 77)))
    assert looker.frames() == [77]


def test_a_deleted_log_is_forgotten_and_found_again(log, events, looking):
    looker = looking(log)
    log.write_bytes(events.lines(events.run(), events.frame(101.0, 0)))
    assert looker.frames() == [0]
    log.unlink()
    assert looker.look() == []
    log.write_bytes(events.lines(events.run(), events.frame(101.0, 5)))
    assert looker.frames() == [5]


def test_of_a_long_log_only_its_first_line_and_its_end_are_read(log, events, looking, monkeypatch):
    monkeypatch.setattr(follow, "_TAIL_BYTES", 3000)
    log.write_bytes(events.lines(events.run(agent="pi"), *(events.frame(101.0 + n, n) for n in range(500))))
    (grown,) = looking(log).look()
    assert isinstance(grown.events[0], RunEvent)
    numbers = [event.frame for event in grown.events[1:]]
    assert numbers[-1] == 499
    assert 3 <= len(numbers) < 20
    assert grown.spoilt == 0


def test_spoilt_lines_are_counted_and_passed_over(log, events, looking, monkeypatch):
    monkeypatch.setattr(follow, "_LONGEST_LINE", 2000)
    log.write_bytes(events.lines(events.run()) + b"nonsense\n\xff\n" + events.lines(events.frame(101.0, 1)))
    looker = looking(log)
    (grown,) = looker.look()
    assert (len(grown.events), grown.spoilt) == (2, 2)
    with log.open("ab") as file:
        file.write(b"x" * 5000)
    assert looker.look() == []
    with log.open("ab") as file:
        file.write(b"x" * 5000 + b"\n" + events.lines(events.frame(102.0, 2)))
    (grown,) = looker.look()
    assert ([event.frame for event in grown.events], grown.spoilt) == ([2], 3)


def test_instants_are_those_of_our_clock_whatever_the_writers_is(log, events, looking):
    log.write_bytes(events.lines(events.run(100.0), events.frame(5000.0)))
    os.utime(log, (time.time() - 30.0,) * 2)  # written half a minute ago
    now_s = time.monotonic()
    (grown,) = looking(log).follower.grown(now_s)
    assert 5000.0 + grown.shift_s == pytest.approx(now_s - 30.0, abs=1.0)


def test_many_long_logs_take_turns(log, events, looking, monkeypatch):
    monkeypatch.setattr(follow, "_MOST_EVENTS", 10)
    for number in range(6):
        (log.parent / f"{number}.jsonl").write_bytes(
            events.lines(*(events.frame(1.0 + n, n) for n in range(9)))
        )
    looker = looking(log.parent)
    turns = [[grown.path.stem for grown in looker.look()] for _ in range(3)]
    assert [len(turn) for turn in turns] == [2, 2, 2]
    assert {name for turn in turns for name in turn} == set("012345")


def test_a_path_that_can_never_be_there(tmp_path):
    with pytest.raises(InputError, match="no such file or folder"):
        Follower([tmp_path / "no" / "such"])


def test_logs_of_this_host_need_no_guess(log, events, looking):
    now_s = time.monotonic()
    log.write_bytes(
        events.lines(events.run(now_s - 60.0, unix_s=time.time() - 60.0), events.frame(now_s - 50.0))
    )
    os.utime(log, (time.time() - 5.0,) * 2)
    looker = looking(log.parent)
    assert [grown.shift_s for grown in looker.look()] == [0.0]
    # The log of a link says nothing of its host.
    (log.parent / "link.jsonl").write_bytes(events.lines(ShapeEvent(at_s=now_s - 40.0, rate_bytes_per_s=1.0)))
    assert [grown.shift_s for grown in looker.look()] == [0.0]
