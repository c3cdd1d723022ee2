import random

from hypothesis import given
from hypothesis import strategies as st

from isthmus.runtime.server.turns import Turns


def _turns(*names, quantum_s=0.005):
    turns = Turns(quantum_s)
    for name in names:
        turns.join(name)
    return turns


def test_nobody_waits():
    assert _turns("a", "b").next(lambda one: False) is None


def test_the_only_one_that_waits_has_every_turn():
    turns = _turns("a", "b")
    for _ in range(5):
        assert turns.next(lambda one: one == "b") == "b"
        turns.charge("b", 1.0)


def test_short_and_long_batches_get_the_same_time():
    turns, used_s = _turns("short", "long"), {"short": 0.0, "long": 0.0}
    for _ in range(2000):
        one = turns.next(lambda one: True)
        seconds = {"short": 0.001, "long": 0.040}[one]
        turns.charge(one, seconds)
        used_s[one] += seconds
    assert abs(used_s["short"] - used_s["long"]) <= 0.005 + 0.040 + 0.001


def test_idling_saves_no_credit_up():
    turns = _turns("busy", "idle")
    for _ in range(100):
        assert turns.next(lambda one: one == "busy") == "busy"
        turns.charge("busy", 0.010)
    firsts = []
    for _ in range(10):
        one = turns.next(lambda one: True)
        turns.charge(one, 0.010)
        firsts.append(one)
    assert 4 <= firsts.count("idle") <= 6


def test_who_has_left_is_not_asked():
    turns = _turns("a", "b")
    turns.leave("a")
    assert turns.next(lambda one: True) == "b"


@given(st.lists(st.floats(0.0001, 0.1), min_size=2, max_size=5), st.integers(0, 1000))
def test_whoever_waits_all_the_time_gets_an_equal_share(longest_s, seed):
    names = tuple(range(len(longest_s)))
    turns, used_s, draw = _turns(*names), dict.fromkeys(names, 0.0), random.Random(seed)
    for _ in range(500):
        one = turns.next(lambda one: True)
        seconds = longest_s[one] * draw.uniform(0.5, 1.0)
        turns.charge(one, seconds)
        used_s[one] += seconds
    most, least = max(used_s, key=used_s.get), min(used_s, key=used_s.get)
    assert used_s[most] - used_s[least] <= 2 * 0.005 + longest_s[most] + longest_s[least]
