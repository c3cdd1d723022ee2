import dataclasses
from typing import Any

import pytest

from isthmus.report import Summary, load_runs, summarise
from isthmus.report.verdict import is_sound, verdict
from isthmus.runtime.events import OUTCOMES


@pytest.fixture(scope="module")
def told(synthetic_run: Any) -> Summary:
    return summarise(load_runs([synthetic_run.folder])[0])


def test_a_whole_run_is_sound_and_its_story_complete(told: Summary) -> None:
    text = verdict(told)
    assert is_sound(told)
    assert text.startswith("Every one of the 1200 captured frames ended exactly once.")
    assert told.in_time is not None
    assert f"{100 * told.in_time.value:.1f}\u00a0% of the frames were answered in time" in text
    assert "points below the uncut teacher's 97.8\u00a0%" in text
    ends = ", ".join(f"{count} {name}" for name, count in told.interruptions[0].outcomes.items() if count)
    assert f"The link was out for 5 s (from 12.2 s): its 150 frames ended as {ends}" in text


def test_an_outage_bridged_by_the_device_is_said_in_one_clause(told: Summary) -> None:
    bridged = dataclasses.replace(
        told.interruptions[0], outcomes=dict.fromkeys(OUTCOMES, 0) | {"exit": 140, "local": 10}
    )
    text = verdict(dataclasses.replace(told, interruptions=(bridged,)))
    assert (
        "(from 12.2 s): the device answered all 150 frames of it in time; the server's answers resumed"
        in text
    )


def test_a_server_that_never_came_back_is_said(told: Summary) -> None:
    gone = dataclasses.replace(told.interruptions[0], kind="disconnected", recovered_s=None)
    text = verdict(dataclasses.replace(told, interruptions=(gone,)))
    assert "The server was unreachable for 5 s" in text
    assert text.endswith("the server answered no frame after it.")


def test_a_killed_run_is_not_sound(told: Summary) -> None:
    killed = dataclasses.replace(told, accounting=dataclasses.replace(told.accounting, ended=False))
    assert not is_sound(killed)
    assert verdict(killed).startswith("The log stops without an end event: 1200 frames ended before that")


def test_an_account_that_does_not_balance_says_where(told: Summary) -> None:
    account = dataclasses.replace(told.accounting, captured=1203, repeated=2, balanced=False)
    text = verdict(dataclasses.replace(told, accounting=account))
    assert (
        "does not balance: 1203 were captured, 1200 are in the log; 2 frame numbers occur more than once"
        in text
    )


def test_unknown_accuracy_is_not_a_number(told: Summary) -> None:
    unknown = dataclasses.replace(told.accuracy, run=None, connected=None, connected_minus_teacher=None)
    assert "no labels, so accuracy is unknown" in verdict(dataclasses.replace(told, accuracy=unknown))


def test_many_interruptions_are_cut_short(told: Summary) -> None:
    text = verdict(dataclasses.replace(told, interruptions=told.interruptions * 5))
    assert text.count("The link was out") == 3
    assert "2 more interruptions" in text
