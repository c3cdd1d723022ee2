"""The tables of a report as facts, for whichever format shows them. Pure text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from isthmus.report.energy import EnergyUse
from isthmus.report.labels import count, interval, percent, short_point
from isthmus.report.regret import Regret
from isthmus.report.statistics import Durations, Share
from isthmus.report.summary import Summary
from isthmus.report.theme import OUTCOME_WORDS
from isthmus.runtime.units import format_bytes, format_duration

DASH = "–"
_MOST_ROWS = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A table column: its heading, and whether it holds prose (set left, may wrap) instead of figures."""

    heading: str
    prose: bool = False


@dataclass(frozen=True, slots=True)
class Cell:
    """A figure among its like: the length of its bar in [0, 1], and a word if it stands out, as "lowest"."""

    text: str
    share: float | None = None
    word: str = ""

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True)
class Table:
    """A caption, columns, and rows whose first cell heads the row."""

    caption: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[str | Cell, ...], ...]


def of(caption: str, headings: Sequence[str | Column], rows: Sequence[Sequence[str | Cell]]) -> Table:
    """Return a table; plain headings are those of figures."""
    columns = (Column(heading=h) if isinstance(h, str) else h for h in headings)
    return Table(caption, tuple(columns), tuple(tuple(row) for row in rows))


def outcomes(summary: Summary) -> Table:
    """Return how the captured frames ended."""
    total = max(summary.accounting.logged, 1)
    rows = [
        [name, OUTCOME_WORDS[name], count(frames), percent(frames / total)]
        + [time(summary.latency_by_outcome.get(name), field) for field in ("p50_s", "p90_s", "p99_s")]
        for name, frames in summary.accounting.outcomes.items()
    ]
    rows.append(
        ["all", "", count(summary.accounting.logged), "100 %"]
        + [time(summary.latency, field) for field in ("p50_s", "p90_s", "p99_s")]
    )
    meaning = Column(heading="Meaning", prose=True)
    return of("Frames by outcome", ["Outcome", meaning, "Frames", "Share", "Latency p50", "p90", "p99"], rows)


def accuracy(summary: Summary) -> Table:
    """Return accuracy over the run and while connected, of answers and of captured frames."""
    a = summary.accuracy
    shares = [
        ("whole run: right, of the answers in time", a.run),
        ("while connected: right, of the answers in time", a.connected),
        ("by the server: right, of its answers in time", a.remote),
        ("whole run: right and in time, of the frames captured", a.run_correct_in_time),
        ("while connected: right and in time, of the frames captured", a.connected_correct_in_time),
    ]
    return of(
        "How often the answer was right, where the truth is known",
        [Column(heading="Accuracy", prose=True), "Share", "95 % from", "to", "Right", "Frames"],
        [[what, *_share_cells(share)] for what, share in shares],
    )


def interruptions(summary: Summary) -> Table | None:
    """Return outages and disconnections, the longest if there are many; None if there was none."""
    if not summary.interruptions:
        return None
    shown = sorted(summary.interruptions, key=lambda gap: -gap.duration_s)[:_MOST_ROWS]
    rows = [
        [f"{gap.start_s:.1f}", gap.kind, format_duration(gap.duration_s)]
        + [count(frames) for frames in gap.outcomes.values()]
        + [DASH if gap.recovered_s is None else format_duration(gap.recovered_s)]
        for gap in sorted(shown, key=lambda gap: gap.start_s)
    ]
    left_out = len(summary.interruptions) - len(shown)
    return of(
        "Stretches without a link or a server, and how the frames captured in them ended"
        + (f"; {left_out} shorter ones are left out" if left_out else ""),
        ["From (s)", "What", "Lasted", *OUTCOME_WORDS, "Server answers again after"],
        rows,
    )


def deadline_changes(summary: Summary) -> Table | None:
    """Return when the deadline was changed, the first times if there are many; None if it never was."""
    changes = summary.deadline_changes
    if not changes:
        return None
    left_out = len(changes) - len(changes[:_MOST_ROWS])
    return of(
        "Frames captured from then on had another deadline"
        + (f"; {left_out} later changes are left out" if left_out else ""),
        ["From (s)", "Deadline before", "Deadline"],
        [
            [f"{change.at_s:.1f}", format_duration(change.before_s), format_duration(change.deadline_s)]
            for change in changes[:_MOST_ROWS]
        ],
    )


def points(summary: Summary, widths: Sequence[float]) -> Table:
    """Return the operating points used, most used first."""
    total = max(summary.accounting.logged, 1)
    rows = [
        [
            "none" if use.point is None else short_point(use.point, widths),
            count(use.frames),
            percent(use.frames / total),
            count(use.sent),
            count(use.remote),
            count(use.probes),
            DASH if use.payload_bytes_mean is None else format_bytes(use.payload_bytes_mean),
            time(use.latency, "p50_s"),
            DASH if use.accuracy is None else f"{percent(use.accuracy.value)} ({count(use.accuracy.total)})",
            DASH if use.measured is None else percent(use.measured.utility),
        ]
        for use in summary.points
    ]
    return of(
        "Width · latent channels. Latency and accuracy: of the frames the server answered in time",
        [
            "Operating point", "Frames", "Share", "Sent", "Server in time", "Probes", "Mean payload",
            "Latency p50", "Accuracy in this run", "Accuracy in the bundle",
        ],
        rows,
    )  # fmt: skip


def stages(summary: Summary, widths: Sequence[float]) -> Table | None:
    """Return the mean stages of a frame; None if no frame was answered."""
    if not summary.stages:
        return None
    names = list(summary.stages[0].mean_s)
    rows = [
        [row.label(widths), count(row.frames)]
        + [f"{1e3 * row.mean_s[name]:.2f}" for name in names]
        + [f"{1e3 * row.total_s:.2f}"]
        for row in summary.stages
    ]
    return of("Mean milliseconds by stage", ["Frames ended by", "Frames", *names, "sum"], rows)


def reasons(summary: Summary) -> Table:
    """Return why the policy chose as it did, most frequent reasons first."""
    total = sum(use.frames for use in summary.reasons)
    shown = summary.reasons[:12]
    rows = [[use.reason, count(use.frames), percent(use.frames / total), use.example] for use in shown]
    rest = total - sum(use.frames for use in shown)
    if rest:
        rows.append([f"{len(summary.reasons) - len(shown)} others", count(rest), percent(rest / total), ""])
    reason = Column(heading="Reason (# stands for a quantity)", prose=True)
    example = Column(heading="For example", prose=True)
    return of("What the policy gave as its reason, by frame", [reason, "Frames", "Share", example], rows)


def energy(use: EnergyUse) -> Table:
    """Return where the joules went."""
    how = "measured" if use.measured else "modelled"
    parts = [
        ("whole device", use.total_j, f"{how} by {use.source}"),
        ("idle", use.idle_j, f"{how} before the run, times its length"),
        ("computing", use.compute_j, "the rest"),
        ("radio", use.radio_j, f"modelled from bytes sent and the radio's tail ({use.radio_source})"),
    ]
    rows = [
        [
            name,
            f"{joules:.3g} J",
            DASH if not use.frames else f"{1e3 * joules / use.frames:.3g} mJ",
            percent(joules / use.total_j) if use.total_j > 0 else DASH,
            source,
        ]
        for name, joules, source in parts
        if joules is not None
    ]
    return of(
        f"Over {count(use.frames)} frames captured in the {format_duration(use.seconds)} of the meter",
        ["Part", "Joules", "Per frame", "Share", Column(heading="Where the figure comes from", prose=True)],
        rows,
    )


def regret(found: Regret) -> Table:
    """Return what the run and the clairvoyant chose."""
    return of(
        "Share of frames answered in time, by the operating point that answered or by the device",
        ["Answered by", "This run", "The clairvoyant"],
        [[way, percent(mine), percent(theirs)] for way, mine, theirs in found.choices],
    )


def time(times: Durations | None, field: str) -> str:
    """Return a quantile for people, a dash if there is none."""
    return DASH if times is None else format_duration(getattr(times, field))


def value(share: Share | None) -> str:
    """Return a share in percent, a dash if it is unknown."""
    return DASH if share is None else percent(share.value)


def note(share: Share | None) -> str:
    """Return the counts and the interval of a share."""
    return "unknown" if share is None else interval(share)


def _share_cells(share: Share | None) -> list[str]:
    if share is None:
        return [DASH] * 5
    return [
        percent(share.value), percent(share.low), percent(share.high), count(share.count), count(share.total),
    ]  # fmt: skip
