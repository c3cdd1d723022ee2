"""The sections of one run's report: its header, key figures, tables and definitions."""

from __future__ import annotations

from datetime import datetime, timezone
from html import escape

from isthmus.report.breakdown import STAGES
from isthmus.report.labels import accuracy_points, interval, percent, short_point
from isthmus.report.legends import outcome_legend
from isthmus.report.load import RunLog
from isthmus.report.markup import Column, cards, facts, table
from isthmus.report.statistics import Durations, Share
from isthmus.report.summary import Summary
from isthmus.report.theme import OUTCOME_WORDS
from isthmus.report.verdict import is_sound, verdict
from isthmus.runtime.units import format_bytes, format_duration

DASH = "–"

_DEFINITIONS = """
<p><strong>While connected</strong>: a frame counts if the link events before and after its capture (one a
second; before the first nothing counts) both say that the agent was connected, and no outage of the
emulated link lies within {guard} of its capture. An outage is a true rate of 0 for at least one deadline.
Where the link was not emulated, the link events alone decide. How a frame ended plays no part.</p>
<p><strong>Accuracy</strong>: right answers among those given in time, by the server or the device, as far
as the truth is known. <em>Right and in time</em> also counts late and dropped frames, as wrong. Ranges are
95&nbsp;% Wilson intervals. The teacher is the uncut network: on the same frames if the run folder holds its
answers (teacher.json), else on the bundle's held-out images.</p>
<p><strong>Latency</strong>: from capture to answer, over all answered frames, late ones included; quantiles
interpolate linearly. <strong>Payload</strong>: the encoded latent with its header, without gRPC, TCP and
IP.</p>
"""


def header(log: RunLog, summary: Summary) -> str:
    """Return what ran, the verdict and the account of frames."""
    run = log.run
    lead = f"{run.bundle}, {run.source}, policy {run.policy}" if run else "a run whose first event is missing"
    when = datetime.fromtimestamp(run.unix_s, tz=timezone.utc).strftime("%Y-%m-%d %H:%M UTC") if run else ""
    lead += f", {format_duration(summary.duration_s)}" + (f", {when}" if when else "")
    sound = is_sound(summary)
    label, kind = ("Sound.", "good") if sound else ("Attention.", "attention")
    return (
        f'<p class="lead">{escape(lead)}</p><div class="verdict {kind}"><p><strong>{label}</strong> '
        f"{escape(verdict(summary))}</p></div>"
    )


def key_figures(summary: Summary) -> str:
    """Return the figures people look for first."""
    accuracy, latency = summary.accuracy, summary.latency
    entries = [
        (
            "Answered in time",
            _value(summary.in_time),
            f"{sum(summary.accounting.outcomes.values())} frames captured",
        ),
        ("Accuracy over the run", _value(accuracy.run), _note(accuracy.run)),
        ("Accuracy while connected", _value(accuracy.connected), _note(accuracy.connected)),
        (
            "Against the uncut teacher",
            DASH
            if accuracy.connected_minus_teacher is None
            else accuracy_points(accuracy.connected_minus_teacher),
            f"teacher {percent(accuracy.teacher)} "
            + ("on the same frames" if accuracy.teacher_same_frames else "on held-out images")
            if accuracy.teacher is not None
            else "unknown",
        ),
        ("Latency, median", _time(latency, "p50_s"), "capture to answer"),
        ("Latency, p90", _time(latency, "p90_s"), f"p99 {_time(latency, 'p99_s')}"),
        (
            "Payload, mean",
            DASH if summary.payload_bytes_mean is None else format_bytes(summary.payload_bytes_mean),
            f"{summary.sent_frames} frames sent, {format_bytes(summary.payload_bytes_total)}",
        ),
        (
            "Operating points",
            str(sum(1 for use in summary.points if use.point is not None)),
            "reconnects: " + ("unknown" if summary.reconnects is None else str(summary.reconnects)),
        ),
    ]
    return cards(entries)


def account(summary: Summary) -> str:
    """Return how the captured frames ended: the equation, a bar and a table."""
    counts, total = summary.accounting.outcomes, max(summary.accounting.logged, 1)
    bar = "".join(
        f'<span style="flex:{count};background:var(--{name})"></span>'
        for name, count in counts.items()
        if count
    )
    rows = []
    for name, count in counts.items():
        times = summary.latency_by_outcome.get(name)
        rows.append(
            [name, OUTCOME_WORDS[name], str(count), percent(count / total)]
            + [_time(times, field) for field in ("p50_s", "p90_s", "p99_s")]
        )
    rows.append(
        ["all", "", str(summary.accounting.logged), "100 %"]
        + [_time(summary.latency, field) for field in ("p50_s", "p90_s", "p99_s")]
    )
    columns = [Column(heading="Outcome"), Column(heading="Meaning", prose=True)]
    columns += [Column(heading=text) for text in ("Frames", "Share", "Latency p50", "p90", "p99")]
    return (
        f'<p class="equation">{escape(summary.accounting.statement)}</p>'
        f'<div class="bar" aria-hidden="true">{bar}</div>'
        + outcome_legend([name for name, count in counts.items() if count])
        + table("Frames by outcome", columns, rows)
    )


def accuracy_table(summary: Summary) -> str:
    """Return accuracy over the run and while connected, of answers and of captured frames."""
    a = summary.accuracy
    shares = [
        ("whole run: right, of the answers in time", a.run),
        ("while connected: right, of the answers in time", a.connected),
        ("by the server: right, of its answers in time", a.remote),
        ("whole run: right and in time, of the frames captured", a.run_correct_in_time),
        ("while connected: right and in time, of the frames captured", a.connected_correct_in_time),
    ]
    rows = [[what, *_share_cells(share)] for what, share in shares]
    columns = [Column(heading="Accuracy", prose=True)]
    columns += [Column(heading=text) for text in ("Share", "95 % from", "to", "Right", "Frames")]
    return table("How often the answer was right, where the truth is known", columns, rows)


def interruptions(summary: Summary) -> str:
    """Return the table of outages and disconnections, or nothing if there was none."""
    if not summary.interruptions:
        return ""
    columns = [
        "From (s)",
        "What",
        "Lasted",
        "remote",
        "exit",
        "local",
        "late",
        "dropped",
        "Server answers again after",
    ]
    rows = [
        [f"{gap.start_s:.1f}", gap.kind, format_duration(gap.duration_s)]
        + [str(count) for count in gap.outcomes.values()]
        + [DASH if gap.recovered_s is None else format_duration(gap.recovered_s)]
        for gap in summary.interruptions
    ]
    return "<h2>Interruptions</h2>" + table(
        "Stretches without a link or a server, and how the frames captured in them ended",
        [Column(heading=text) for text in columns],
        rows,
    )


def points_table(log: RunLog, summary: Summary) -> str:
    """Return the operating points used, most used first."""
    columns = [
        "Operating point", "Frames", "Share", "Sent", "Server in time", "Probes", "Mean payload",
        "Latency p50",        "Accuracy in this run", "Accuracy in the bundle",
    ]  # fmt: skip
    rows = [
        [
            "none" if use.point is None else short_point(use.point, log.widths),
            str(use.frames),
            percent(use.frames / len(log.frames)),
            str(use.sent),
            str(use.remote),
            str(use.probes),
            DASH if use.payload_bytes_mean is None else format_bytes(use.payload_bytes_mean),
            _time(use.latency, "p50_s"),
            DASH if use.accuracy is None else f"{percent(use.accuracy.value)} ({use.accuracy.total})",
            DASH if use.measured is None else percent(use.measured.utility),
        ]
        for use in summary.points
    ]
    return table(
        "Width · latent channels. Latency and accuracy: of the frames the server answered in time",
        [Column(heading=text) for text in columns],
        rows,
    )


def stages_table(log: RunLog, summary: Summary) -> str:
    """Return the numbers behind the figure of stages."""
    rows = [
        [row.label(log.widths), str(row.frames)]
        + [f"{1e3 * row.mean_s[stage]:.2f}" for stage in STAGES]
        + [f"{1e3 * row.total_s:.2f}"]
        for row in summary.stages
    ]
    columns = [Column(heading=text) for text in ("Frames ended by", "Frames", *STAGES, "sum")]
    content = table("Mean milliseconds by stage", columns, rows)
    return f"<details><summary>As a table</summary>{content}</details>"


def reasons_table(summary: Summary) -> str:
    """Return why the policy chose as it did, most frequent reasons first."""
    total = sum(use.frames for use in summary.reasons)
    shown = summary.reasons[:12]
    rows = [[use.reason, str(use.frames), percent(use.frames / total), use.example] for use in shown]
    rest = total - sum(use.frames for use in shown)
    if rest:
        rows.append([f"{len(summary.reasons) - len(shown)} others", str(rest), percent(rest / total), ""])
    columns = [
        Column(heading="Reason (# stands for a quantity)", prose=True), Column(heading="Frames"),
        Column(heading="Share"), Column(heading="For example", prose=True),
    ]  # fmt: skip
    return table("What the policy gave as its reason, by frame", columns, rows)


def set_up(log: RunLog, summary: Summary) -> str:
    """Return the facts that do not change in a run."""
    pairs: list[tuple[str, str]] = []
    if log.run:
        run = log.run
        pairs += [
            ("Bundle", f"{run.bundle}, digest {run.bundle_digest[:16]}…"),
            ("Frames", f"{run.source}, {run.fps:g} per second"),
            ("Deadline", format_duration(run.deadline_s)),
            ("Policy", run.policy),
            ("Server", run.server),
            ("Widths", ", ".join(f"{width:g}" for width in run.widths)),
            ("Uncut teacher", percent(run.teacher_utility) + _measured_on(log)),
            ("Isthmus", run.isthmus_version),
        ]
    if log.plan:
        where = " ".join(part for part in (log.plan.cut, log.plan.module and f"({log.plan.module})") if part)
        pairs.append(("Plan", ": ".join(part for part in (log.plan.kind, where, log.plan.reason) if part)))
    if log.timings_s:
        pairs.append(
            ("Time by stage", ", ".join(f"{name} {format_duration(s)}" for name, s in log.timings_s))
        )
    return facts(pairs)


def definitions(summary: Summary) -> str:
    """Return how the figures are defined, for people who must rely on them."""
    guard = format_duration(summary.accuracy.guard_s)
    return _DEFINITIONS.format(guard=guard)


def _measured_on(log: RunLog) -> str:
    return f" on {log.points.measured_on}" if log.points else ""


def _value(share: Share | None) -> str:
    return DASH if share is None else percent(share.value)


def _note(share: Share | None) -> str:
    return "unknown" if share is None else interval(share)


def _share_cells(share: Share | None) -> list[str]:
    if share is None:
        return [DASH] * 5
    return [percent(share.value), percent(share.low), percent(share.high), str(share.count), str(share.total)]


def _time(times: Durations | None, field: str) -> str:
    return DASH if times is None else format_duration(getattr(times, field))
