"""A run in a few sentences, from its summary. Pure text."""

from __future__ import annotations

from isthmus.report.labels import count, percent
from isthmus.report.summary import Accounting, Interruption, Summary
from isthmus.runtime.units import format_duration


def is_sound(summary: Summary) -> bool:
    """Say whether the log is whole: the run ended by itself and every captured frame ended exactly once."""
    return summary.accounting.ended and summary.accounting.balanced


def verdict(summary: Summary) -> str:
    """Return what happened: the account, answers in time, accuracy against the teacher, interruptions."""
    sentences = [accounting_sentence(summary.accounting)]
    if summary.in_time:
        sentences.append(f"{percent(summary.in_time.value)} of the frames were answered in time.")
    sentences.append(_accuracy_sentence(summary))
    sentences += [_interruption_sentence(gap) for gap in summary.interruptions[:3]]
    if len(summary.interruptions) > 3:
        sentences.append(f"{len(summary.interruptions) - 3} more interruptions are in the table below.")
    return " ".join(sentence for sentence in sentences if sentence)


def accounting_sentence(account: Accounting) -> str:
    """Return whether every captured frame ended once, and what is wrong if not."""
    if not account.ended:
        return (
            f"The log stops without an end event: {count(account.logged)} frames ended before that, "
            "any under way are unknown."
        )
    if account.balanced:
        return f"Every one of the {count(account.captured)} captured frames ended exactly once."
    wrong = []
    if account.captured != account.logged:
        wrong.append(f"{count(account.captured)} were captured, {count(account.logged)} are in the log")
    if account.repeated:
        wrong.append(f"{count(account.repeated)} frame numbers occur more than once")
    return f"The account does not balance: {'; '.join(wrong) or 'outcomes differ from the end event'}."


def _accuracy_sentence(summary: Summary) -> str:
    accuracy = summary.accuracy
    if accuracy.connected is not None:
        text = f"While connected, {percent(accuracy.connected.value)} of the answers in time were right"
        if accuracy.teacher is not None and accuracy.connected_minus_teacher is not None:
            distance = _against(accuracy.connected_minus_teacher)
            text += f", {distance} the uncut teacher's {percent(accuracy.teacher)}"
            text += " on the same frames" if accuracy.teacher_same_frames else " on held-out images"
        return text + "."
    if accuracy.run is not None:
        return f"{percent(accuracy.run.value)} of the answers in time were right."
    return "The source has no labels, so accuracy is unknown."


def _against(difference: float) -> str:
    points = round(abs(100 * difference), 1)
    return "the same as" if points == 0 else f"{points:.1f} points {'below' if difference < 0 else 'above'}"


def _interruption_sentence(gap: Interruption) -> str:
    what = "The link was out" if gap.kind == "outage" else "The server was unreachable"
    total = sum(gap.outcomes.values())
    device = gap.outcomes["exit"] + gap.outcomes["local"]
    text = f"{what} for {format_duration(gap.duration_s)} (from {gap.start_s:.1f} s)"
    if total == 0:
        return text + "; no frame was captured in it."
    if device == total:
        text += f": the device answered all {count(total)} frames of it in time"
    else:
        parts = [f"{count(frames)} {name}" for name, frames in gap.outcomes.items() if frames]
        text += f": its {count(total)} frames ended as {', '.join(parts)}"
    if gap.recovered_s is None:
        return text + "; the server answered no frame after it."
    after = "right" if gap.recovered_s < 1e-3 else format_duration(gap.recovered_s)
    return text + f"; the server's answers resumed with a frame captured {after} after it."
