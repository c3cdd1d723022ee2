from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from isthmus.report import RunLog, Summary, load_runs, summarise
from isthmus.runtime.events import OUTCOMES, EndEvent, EventLog, FrameEvent, LinkEvent, RunEvent, ShapeEvent

START_S = 100.0


@pytest.fixture(scope="module")
def synthetic_summary(synthetic_run: Any) -> Summary:
    return summarise(load_runs([synthetic_run.folder])[0])


@pytest.fixture
def write_log(tmp_path: Path) -> Callable[..., RunLog]:
    def write(*events: Any, end: dict[str, Any] | None = None) -> RunLog:
        log = EventLog(tmp_path / "events.jsonl")
        log.write(
            RunEvent(
                at_s=START_S, unix_s=0.0, bundle="b", bundle_digest="0" * 64, source="s", policy="p",
                server="h:1", deadline_s=0.1, fps=10.0, widths=(0.5, 1.0), labels=("a", "b"),
                teacher_utility=0.9, isthmus_version="0",
            )
        )  # fmt: skip
        for event in events:
            log.write(event)
        if end is not None:
            log.write(EndEvent(at_s=START_S + 10, **end))
        log.close()
        return load_runs([tmp_path / "events.jsonl"])[0]

    return write


def frame(number: int, outcome: str = "remote", **fields: Any) -> FrameEvent:
    captured = START_S + number
    settings: dict[str, Any] = {"answer": 1, "truth": 1, "latency_s": 0.05} | fields
    return FrameEvent(at_s=captured + 0.05, frame=number, captured_s=captured, outcome=outcome, **settings)  # type: ignore[arg-type]


def test_the_account_is_the_logs(synthetic_run: Any, synthetic_summary: Summary) -> None:
    account = synthetic_summary.accounting
    assert account.balanced
    assert account.ended
    assert account.outcomes == synthetic_run.outcomes
    assert account.captured == sum(synthetic_run.outcomes.values()) == 1200
    assert account.statement.startswith("1200 captured = ")


def test_a_frame_missing_from_the_log_unbalances_the_account(write_log: Callable[..., RunLog]) -> None:
    counts = dict.fromkeys(OUTCOMES, 0) | {"remote": 2}
    account = summarise(write_log(frame(0), frame(1), end={"captured": 3, "outcomes": counts})).accounting
    assert not account.balanced
    assert account.statement.startswith("3 captured ≠ 2 remote")


def test_a_frame_that_ends_twice_unbalances_the_account(write_log: Callable[..., RunLog]) -> None:
    counts = dict.fromkeys(OUTCOMES, 0) | {"remote": 2}
    account = summarise(write_log(frame(0), frame(0), end={"captured": 2, "outcomes": counts})).accounting
    assert account.repeated == 1
    assert not account.balanced


def test_outcomes_that_differ_from_the_end_event_unbalance_the_account(
    write_log: Callable[..., RunLog],
) -> None:
    counts = dict.fromkeys(OUTCOMES, 0) | {"exit": 1}
    assert not summarise(write_log(frame(0), end={"captured": 1, "outcomes": counts})).accounting.balanced


def test_a_killed_run_says_so_and_counts_what_is_there(write_log: Callable[..., RunLog]) -> None:
    summary = summarise(write_log(frame(0), frame(1)))
    assert not summary.accounting.ended
    assert summary.accounting.captured == 2
    assert summary.reconnects is None
    assert any("no end event" in note for note in summary.notes)


def test_accuracy_counts_answers_in_time_and_correct_in_time_counts_captures(
    write_log: Callable[..., RunLog],
) -> None:
    summary = summarise(
        write_log(
            frame(0), frame(1, answer=0), frame(2, "exit"), frame(3, "late"),
            frame(4, "dropped", answer=None, latency_s=None), frame(5, truth=None),
        )
    )  # fmt: skip
    accuracy = summary.accuracy
    assert accuracy.run is not None
    assert (accuracy.run.count, accuracy.run.total) == (2, 3)
    assert accuracy.run_correct_in_time is not None
    assert (accuracy.run_correct_in_time.count, accuracy.run_correct_in_time.total) == (2, 5)
    assert accuracy.remote is not None
    assert (accuracy.remote.count, accuracy.remote.total) == (1, 2)
    assert summary.in_time is not None
    assert (summary.in_time.count, summary.in_time.total) == (4, 6)


def test_while_connected_leaves_out_the_outage_and_is_compared_to_the_teacher(
    write_log: Callable[..., RunLog],
) -> None:
    rates = [(0.0, 50.0), (4.0, 0.0), (6.0, 50.0)]
    summary = summarise(
        write_log(
            *(ShapeEvent(at_s=START_S + at, rate_bytes_per_s=rate) for at, rate in rates),
            *(
                frame(n, "remote" if n not in (4, 5) else "exit", answer=int(n not in (4, 5, 9)))
                for n in range(10)
            ),
        )
    )
    # Captured at 0…9 s; 4 and 5 lie in the outage, none within one second of it (3 and 7 are a second away).
    connected = summary.accuracy.connected
    assert connected is not None
    assert (connected.count, connected.total) == (6, 7)
    assert summary.accuracy.connected_minus_teacher == pytest.approx(6 / 7 - 0.9)
    assert summary.accuracy.connected_frames == 7
    assert summary.accuracy.guard_s == 1.0
    (gap,) = summary.interruptions
    assert (gap.kind, gap.start_s, gap.duration_s) == ("outage", 4.0, 2.0)
    assert gap.outcomes == dict.fromkeys(OUTCOMES, 0) | {"exit": 2}
    assert gap.recovered_s == 0.0


def test_a_lost_server_is_an_interruption_too(write_log: Callable[..., RunLog]) -> None:
    def link(second: int) -> LinkEvent:
        return LinkEvent(
            at_s=START_S + second,
            connected=second not in (3, 4),
            rate_bytes_per_s=1.0,
            rtt_s=None,
            backlog_bytes=0,
        )

    summary = summarise(
        write_log(*(link(n) for n in range(8)), *(frame(n, "remote" if n < 3 else "exit") for n in range(8)))
    )
    (gap,) = summary.interruptions
    assert (gap.kind, gap.start_s, gap.duration_s, gap.recovered_s) == ("disconnected", 3.0, 2.0, None)
    assert (
        summary.accuracy.connected_frames == 5
    )  # 0, 1, 5, 6, 7: the event before or after denies it for 2 to 4


def test_the_outage_of_the_synthetic_run_is_found(synthetic_summary: Summary) -> None:
    (gap,) = synthetic_summary.interruptions
    assert gap.start_s == pytest.approx(12.2)
    assert gap.duration_s == pytest.approx(5.0)
    assert gap.outcomes["remote"] == 0
    assert sum(gap.outcomes.values()) == 150
    assert gap.recovered_s is not None
    assert 0 <= gap.recovered_s < 2


def test_without_labels_accuracy_is_unknown(write_log: Callable[..., RunLog]) -> None:
    accuracy = summarise(write_log(frame(0, truth=None))).accuracy
    assert (accuracy.run, accuracy.connected, accuracy.connected_minus_teacher) == (None, None, None)


def test_bytes_are_those_of_frames_sent(synthetic_run: Any, synthetic_summary: Summary) -> None:
    sent = [event.payload_bytes for event in synthetic_run.frames if event.payload_bytes]
    assert synthetic_summary.sent_frames == len(sent)
    assert synthetic_summary.payload_bytes_total == sum(sent)
    assert synthetic_summary.payload_bytes_mean == pytest.approx(np.mean(sent))


def test_latency_includes_late_answers(synthetic_run: Any, synthetic_summary: Summary) -> None:
    latencies = [event.latency_s for event in synthetic_run.frames if event.latency_s is not None]
    assert synthetic_summary.latency is not None
    assert synthetic_summary.latency.count == len(latencies)
    assert synthetic_summary.latency.p90_s == pytest.approx(np.percentile(latencies, 90))
    assert synthetic_summary.latency_by_outcome["late"].max_s > 0.09


def test_the_summary_is_plain_json(synthetic_summary: Summary) -> None:
    decoded = msgspec.json.decode(msgspec.json.encode(synthetic_summary))
    assert decoded["accounting"]["captured"] == 1200
    assert decoded["points"][0]["point"]["channels"] > 0
