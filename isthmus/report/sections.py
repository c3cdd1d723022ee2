"""The sections of one run's report that are not tables: its header, key figures, account and definitions."""

from __future__ import annotations

from datetime import datetime, timezone
from html import escape

from isthmus.report.labels import accuracy_points, count, percent
from isthmus.report.legends import legend, outcome_swatches
from isthmus.report.markup import cards, facts
from isthmus.report.quantiles import RELATIVE_ERROR
from isthmus.report.runlog import RunLog
from isthmus.report.summary import Summary
from isthmus.report.tables import DASH, note, time, value
from isthmus.report.verdict import is_sound, verdict
from isthmus.runtime.units import format_bytes, format_duration

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
interpolate linearly{error}. <strong>Payload</strong>: the encoded latent with its header, without gRPC, TCP
and IP.</p>
<p><strong>Energy</strong>: joules of the whole device as its meter counts them, over the frames captured
meanwhile. Idle is what the device drew before the run, times the length of the run; radio is always a model,
of bytes sent and of the time a radio stays awake after a transfer; computing is the rest.</p>
<p><strong>Regret</strong>: 1 − U / U of a clairvoyant, where U is the mean over captured frames of the
measured accuracy of what answered in time, 0 if nothing did. The clairvoyant knows the rates the link really
had and meets the same frames, deadlines and median times of device and server; its server never fails. No
policy can know as much: a regret of a few percent is good.</p>
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
    return cards(key_entries(summary))


def key_entries(summary: Summary) -> list[tuple[str, str, str]]:
    """Return name, value and note of the figures people look for first."""
    accuracy, latency = summary.accuracy, summary.latency
    teacher, gap = accuracy.teacher, accuracy.connected_minus_teacher
    frames_of_it = "on the same frames" if accuracy.teacher_same_frames else "on held-out images"
    payload = DASH if summary.payload_bytes_mean is None else format_bytes(summary.payload_bytes_mean)
    reconnects = "unknown" if summary.reconnects is None else str(summary.reconnects)
    entries = [
        ("Answered in time", value(summary.in_time), f"{count(summary.accounting.logged)} frames captured"),
        ("Accuracy over the run", value(accuracy.run), note(accuracy.run)),
        ("Accuracy while connected", value(accuracy.connected), note(accuracy.connected)),
        (
            "Against the uncut teacher",
            DASH if gap is None else accuracy_points(gap),
            "unknown" if teacher is None else f"teacher {percent(teacher)} {frames_of_it}",
        ),
        ("Latency, median", time(latency, "p50_s"), "capture to answer"),
        ("Latency, p90", time(latency, "p90_s"), f"p99 {time(latency, 'p99_s')}"),
        (
            "Payload, mean",
            payload,
            f"{count(summary.sent_frames)} frames sent, {format_bytes(summary.payload_bytes_total)}",
        ),
    ]
    if summary.energy is not None:
        use = summary.energy
        how = "" if use.measured else "modelled, "
        per_frame = DASH if use.per_frame_j is None else f"{1e3 * use.per_frame_j:.3g} mJ"
        entries.append(("Energy per frame", per_frame, f"{how}{use.power_w:.3g} W by {use.source}"))
    if summary.regret is not None:
        entries.append(("Regret", percent(summary.regret.regret), "behind one who knew the link's future"))
    used = sum(1 for use in summary.points if use.point is not None)
    entries.append(("Operating points", str(used), f"reconnects: {reconnects}"))
    return entries


def account(summary: Summary) -> str:
    """Return how the captured frames ended: the equation and a bar."""
    counts = summary.accounting.outcomes
    bar = "".join(
        f'<span style="flex:{frames};background:var(--{name})"></span>'
        for name, frames in counts.items()
        if frames
    )
    return (
        f'<p class="equation">{escape(summary.accounting.statement)}</p>'
        f'<div class="bar" aria-hidden="true">{bar}</div>'
        + legend(outcome_swatches([name for name, frames in counts.items() if frames]))
    )


def set_up(log: RunLog) -> str:
    """Return the facts that do not change in a run."""
    return facts(set_up_pairs(log))


def set_up_pairs(log: RunLog) -> list[tuple[str, str]]:
    """Return names and values of the facts that do not change in a run."""
    pairs: list[tuple[str, str]] = []
    if log.run:
        run = log.run
        pairs += [
            ("Bundle", f"{run.bundle}, digest {run.bundle_digest[:16]}…"),
            ("Frames", f"{run.source}, {run.fps:g} per second"),
            ("Deadline", _deadlines(log)),
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
    return pairs


def definitions(summary: Summary) -> str:
    """Return how the figures are defined, for people who must rely on them."""
    guard = format_duration(summary.accuracy.guard_s)
    exact = summary.latency is None or summary.latency.exact
    error = "" if exact else f"; of so many frames within {100 * RELATIVE_ERROR:g}&nbsp;% of themselves"
    return _DEFINITIONS.format(guard=guard, error=error)


def _deadlines(log: RunLog) -> str:
    at_s, deadlines_s = log.deadline_steps()
    changes = zip(at_s[1:], deadlines_s[1:], strict=True)
    first = format_duration(float(deadlines_s[0]))
    return ", ".join([first, *(f"{format_duration(d)} from {t - log.start_s:.1f} s on" for t, d in changes)])


def _measured_on(log: RunLog) -> str:
    return f" on {log.table.measured_on}" if log.table else ""
