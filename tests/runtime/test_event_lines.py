"""Logs are read a block at a time, up to where they were cut off."""

import tracemalloc

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isthmus.runtime import event_lines
from isthmus.runtime.errors import ArtifactError
from isthmus.runtime.event_lines import Lines, decode_lines, read_lines


@pytest.fixture
def log(tmp_path):
    return tmp_path / "events.jsonl"


def test_blocks_hold_whole_lines_and_know_their_place(log):
    log.write_bytes(b"one\ntwo\nthree\nfour\n")
    assert list(read_lines(log, block_bytes=7)) == [
        Lines(1, 0, b"one\n"),
        Lines(2, 4, b"two\nthree\n"),
        Lines(4, 14, b"four\n"),
    ]


def test_a_last_line_without_its_end_is_torn(log):
    log.write_bytes(b"one\ntwo")
    assert list(read_lines(log)) == [Lines(1, 0, b"one\n"), Lines(2, 4, b"two", torn=True)]


def test_a_tail_of_zero_bytes_was_never_written(log):
    log.write_bytes(b"one\ntw" + bytes(5000))
    assert list(read_lines(log, block_bytes=1024)) == [Lines(1, 0, b"one\n"), Lines(2, 4, b"tw", torn=True)]


def test_zero_bytes_with_something_behind_them_spoil_their_line(log):
    log.write_bytes(b"one\n\0two\n")
    assert list(read_lines(log)) == [Lines(1, 0, b"one\n\0two\n")]
    log.write_bytes(b"one\n" + bytes(50) + b"two\n")
    assert [lines.data.strip(b"\0") for lines in read_lines(log, block_bytes=8)] == [b"one\n", b"two\n"]
    assert all(b"\0" in lines.data for lines in read_lines(log, block_bytes=8) if b"two" in lines.data)


def test_no_more_is_read_than_asked_for(log):
    log.write_bytes(b"one\ntwo\nthree\n")
    assert list(read_lines(log, end=8, block_bytes=3)) == [Lines(1, 0, b"one\n"), Lines(2, 4, b"two\n")]


def test_what_has_no_lines_is_refused_before_it_fills_the_memory(log, monkeypatch):
    monkeypatch.setattr(event_lines, "LONGEST_LINE_BYTES", 1 << 20)
    log.write_bytes(b"x" * (3 << 20))
    with pytest.raises(ArtifactError, match=r"events\.jsonl:1: a line of more than 1 MiB is no event"):
        list(read_lines(log, block_bytes=1 << 16))


def test_memory_does_not_grow_with_the_file(log):
    line = b'{"a":1}' + b" " * 992 + b"\n"
    with log.open("wb") as file:
        for _ in range(40):
            file.write(line * 1000)  # 40 MB in all
    tracemalloc.start()
    try:
        assert sum(len(lines.data) for lines in read_lines(log)) == 40_000 * len(line)
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


def test_a_bad_line_is_named_by_its_number_a_torn_one_is_left_out(log):
    decoder = msgspec.json.Decoder(int)
    assert decode_lines(decoder, Lines(1, 0, b"1\n\n2\n"), log) == [1, 2]
    assert decode_lines(decoder, Lines(3, 9, b"34", torn=True), log) == [34]
    assert decode_lines(decoder, Lines(3, 9, b"[3", torn=True), log) == []
    with pytest.raises(ArtifactError, match=r"events\.jsonl:8: not an event"):
        decode_lines(decoder, Lines(7, 0, b"1\n[2\n3\n"), log)


@settings(max_examples=60)
@given(st.binary(max_size=60).map(lambda data: data.replace(b"\0", b"\n")), st.integers(1, 12))
def test_nothing_is_lost_or_doubled_at_the_edges_of_blocks(tmp_path_factory, data, block_bytes):
    log = tmp_path_factory.getbasetemp() / "edges.jsonl"
    log.write_bytes(data)
    found = list(read_lines(log, block_bytes=block_bytes))
    assert b"".join(lines.data for lines in found) == data
    assert all(lines.data.endswith(b"\n") != lines.torn for lines in found)
    assert [lines.first for lines in found] == [1 + data[: lines.start].count(b"\n") for lines in found]
