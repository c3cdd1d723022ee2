import pytest

from isthmus.runtime.bundle import OperatingPoint
from isthmus.runtime.control.device_answer import DeviceAnswers


def test_the_most_useful_answer_in_time_is_chosen(loop):
    points = loop.make_points([(0, 4, 100, 0.8), (1, 8, 200, 0.9)], exit_utility=0.6, local_utility=0.7)
    answers, device = DeviceAnswers(points), loop.make_device(points)
    local = answers.best(device, 0.1)
    assert (local.kind, local.point, local.utility, local.seconds) == ("local", None, 0.7, 0.02)
    # 10 ms are too short for the whole network; of equal exits the quicker head wins.
    quick = answers.best(device, 0.01)
    assert (quick.kind, quick.point, quick.utility) == ("exit", OperatingPoint(0, 4), 0.6)
    assert quick.seconds == pytest.approx(0.001 + 0.001)
    assert answers.best(device, 0.0015) is None


def test_what_the_device_did_not_load_it_cannot_answer(loop):
    points = loop.make_points([(0, 4, 100, 0.8)], exit_utility=0.6, local_utility=0.7)
    answers = DeviceAnswers(points)
    assert answers.best(loop.make_device(points, local_s=None), 0.1).kind == "exit"
    assert answers.best(loop.make_device(points, exit_s=None), 0.1).kind == "local"
    assert answers.best(loop.make_device(points, exit_s=None, local_s=None), 0.1) is None


def test_a_head_that_was_not_timed_yet_takes_what_the_table_says(loop):
    points = loop.make_points([(0, 4, 100, 0.8), (1, 8, 200, 0.9)])
    device = loop.make_device(points, head_s={0: 0.5})
    answers = DeviceAnswers(points)
    assert answers.head_s(device, 0) == 0.5
    assert answers.head_s(device, 1) == pytest.approx(0.002)
    assert answers.best(device, 0.1).point == OperatingPoint(1, 8)


def test_the_decision_says_why_and_drops_what_nobody_can_answer(loop):
    points = loop.make_points([(0, 4, 100, 0.8)])
    answers, device = DeviceAnswers(points), loop.make_device(points)
    decision = answers.decide(device, 0.1, "not connected")
    assert (decision.action, decision.expected_utility, decision.probe) == ("exit", 0.6, False)
    assert decision.reason == "not connected: exit answer on the device"
    dropped = answers.decide(device, 0.0, "not connected")
    assert (dropped.action, dropped.point, dropped.expected_utility) == ("drop", None, 0.0)
    assert "no answer within 0 ms" in dropped.reason
