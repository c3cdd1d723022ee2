"""Whatever happens, every captured frame ends exactly once, and after an outage the utility is soon back.

The scenarios stand in benchmarks/_faults/table.py; they are real processes and what befalls them, and take
their time, so they are played side by side. Only their verdicts are judged here.
"""

from __future__ import annotations

import importlib
import sys
from collections import Counter
from pathlib import Path

import pytest

import isthmus
from isthmus.runtime.bundle import OperatingPoint
from isthmus.runtime.errors import InputError
from isthmus.runtime.events import EndEvent, FrameEvent, RunEvent
from isthmus.runtime.links.tun import check_supported

_FOLDER = Path(isthmus.__file__).resolve().parents[1] / "benchmarks"
if str(_FOLDER) not in sys.path:
    sys.path.append(str(_FOLDER))  # last, as `isthmus bench` does it
faults = importlib.import_module("_faults")
verdicts = importlib.import_module("_faults.verdict")

_JOBS = 16


def _marked(scenario):
    marks = [pytest.mark.timeout(600)]
    if scenario.slow:
        marks.append(pytest.mark.slow)
    if scenario.backend == "netns":
        marks.append(pytest.mark.netns)
    return pytest.param(scenario, id=scenario.title, marks=marks)


@pytest.fixture(scope="module")
def company(request):
    """Play the scenarios of the tests that are going to run."""
    chosen = [
        item.callspec.params["scenario"]
        for item in request.session.items
        if item.path == request.path and "scenario" in getattr(item, "callspec", _NoParams).params
    ]
    chosen = [scenario for scenario in chosen if scenario.backend != "netns" or _has_namespaces()]
    with faults.Company(chosen, jobs=_JOBS, encores=2) as company:
        yield company


class _NoParams:
    params = ()


def _has_namespaces():
    try:
        check_supported()
    except InputError:
        return False
    return True


@pytest.mark.parametrize("scenario", [_marked(scenario) for scenario in faults.SCENARIOS])
def test_every_frame_ends_once_and_what_comes_back_is_used(company, scenario):
    if scenario.backend == "netns" and not _has_namespaces():
        pytest.skip("needs root and network namespaces")
    verdict = company.verdict(scenario)
    assert verdict.violations == ()
    assert verdict.captured == sum(verdict.outcomes.values()) > 0
    if scenario.returns:
        # Without the link's part there would be nothing to lose.
        assert verdict.before > faults.LEAST_BEFORE
        assert verdict.ratio >= faults.TARGET, verdict
    else:
        assert verdict.ratio is None


def test_there_are_enough_of_them_and_no_two_have_one_name():
    assert len(faults.SCENARIOS) >= 20
    assert max(Counter(scenario.title for scenario in faults.SCENARIOS).values()) == 1
    assert sum(not scenario.slow for scenario in faults.SCENARIOS) >= 20


# What judges must be able to condemn.


def _log(*ends, captured=None, outcomes=None):
    run = RunEvent(
        **dict.fromkeys(("bundle", "bundle_digest", "source", "policy", "server", "isthmus_version"), ""),
        **dict.fromkeys(("at_s", "unix_s", "deadline_s", "fps", "teacher_utility"), 0.0),
        widths=(),
        labels=(),
    )
    frames = [
        FrameEvent(
            at_s=frame + 0.1,
            frame=frame,
            captured_s=float(frame),
            outcome=outcome,
            point=OperatingPoint(3, 4),
        )
        for frame, outcome in ends
    ]
    counts = dict(Counter(outcome for _, outcome in ends)) if outcomes is None else outcomes
    captured = len(ends) if captured is None else captured
    return [run, *frames, EndEvent(at_s=9.0, captured=captured, outcomes=counts)]


def _summary(events, **changes):
    end = events[-1]
    return {"captured": end.captured, "outcomes": end.outcomes, "events_lost": 0, **changes}


@pytest.mark.parametrize(
    ("log", "summary", "violation"),
    [
        (_log((0, "remote"), (1, "exit")), {}, None),
        (_log((0, "remote"), (0, "exit")), {}, "frame 0 ended 2 times"),
        (_log((0, "remote"), captured=2), {}, "1 frames ended of 2 captured"),
        (_log((0, "remote"), outcomes={"exit": 1}), {}, "the log counts {'remote': 1}, its end {'exit': 1}"),
        (_log((0, "remote")), {"captured": 2}, "the summary says 2: {'remote': 1}"),
        (
            _log((0, "remote"))[:-1],
            {"captured": 1, "outcomes": {"remote": 1}},
            "does not end with the run's end",
        ),
    ],
)
def test_a_broken_account_is_condemned(log, summary, violation):
    end = log[-1] if isinstance(log[-1], EndEvent) else EndEvent(at_s=0.0, captured=1, outcomes={})
    found = verdicts.violations(log, _summary([end]) | summary)
    if violation is None:
        assert found == []
    else:
        assert any(violation in why for why in found), found


@pytest.mark.parametrize(
    ("changes", "violation"),
    [
        ({"captured": 3, "outcomes": {"remote": 3}, "events_lost": 1}, None),
        (
            {"captured": 3, "outcomes": {"remote": 2}, "events_lost": 1},
            "outcomes add up to 2, captured are 3",
        ),
        ({"captured": 3, "outcomes": {"remote": 3}}, "1 frames are missing, 0 events were lost"),
        ({"captured": 3, "outcomes": {"exit": 3}, "events_lost": 1}, "the log counts {'remote': 2}"),
    ],
)
def test_a_torn_log_must_still_fit_the_summary(changes, violation):
    events = _log((0, "remote"), (1, "remote"))
    found = verdicts.violations_of_torn(events[:-1], _summary(events) | changes)
    if violation is None:
        assert found == []
    else:
        assert any(violation in why for why in found), found


def test_a_link_that_stays_unused_is_no_recovery(tiny_bundle):
    from isthmus.runtime.bundle import load_bundle

    points = load_bundle(tiny_bundle).points
    worth = points.record(OperatingPoint(3, 4)).utility
    for outcome, ratio in (("remote", 1.0), ("dropped", 0.0)):
        ends = [(frame, "remote" if frame < 20 else "exit" if frame < 23 else outcome) for frame in range(40)]
        events = _log(*ends)
        verdict = verdicts.judge(
            events, _summary(events), points, fault_s=20.0, return_s=23.0, deadline_s=0.5
        )
        assert verdict.conserved
        assert verdict.before == pytest.approx(worth)
        assert verdict.ratio == pytest.approx(ratio)
        assert (verdict.recovered_s < 0.05) is (ratio == 1.0)


def test_a_miss_is_played_again_alone_and_a_broken_account_is_not():
    played = []

    def play(scenario, properties):
        played.append(scenario.name)
        again = played.count(scenario.name) > 1
        return verdicts.Verdict(
            captured=1,
            outcomes={"remote": 1},
            violations=("broken",) if scenario.name == "broken" else (),
            before=0.5 if scenario.name == "had little" and not again else 1.0,
            after=1.0 if again or scenario.name == "had little" else 0.5,
        )

    scenarios = [
        faults.Scenario(name=name, backend="process", play=play, returns=True)
        for name in ("misses once", "had little", "broken")
    ]
    with faults.Company(scenarios, jobs=1, encores=2, play=play) as company:
        assert [company.verdict(scenario).ratio for scenario in scenarios] == [1.0, 1.0, 0.5]
    assert sorted(played) == ["broken", "had little", "had little", "misses once", "misses once"]
