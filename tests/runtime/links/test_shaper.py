import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.runtime.links import RateTrace, Shaper


def drain(shaper, until_s, step_s=0.001, start_s=0.0):
    """Return (time, flow, bytes) as a caller sees it who looks every `step_s`."""
    seen, now_s = [], start_s
    while now_s <= until_s:
        seen += [(now_s, flow, data) for flow, data in shaper.pop(now_s)]
        now_s += step_s
    return seen


def test_bytes_come_out_at_the_rate_and_then_travel():
    shaper = Shaper(RateTrace([(1.0, 1000.0)]), delay_s=0.05)
    shaper.push("a", b"x" * 200, 0.0)
    seen = drain(shaper, 1.0)
    assert b"".join(data for _, _, data in seen) == b"x" * 200
    assert seen[-1][0] == pytest.approx(0.2 + 0.05, abs=0.002)
    # The first quantum of 64 bytes is there long before the last.
    assert seen[0][0] == pytest.approx(0.064 + 0.05, abs=0.002)


def test_a_caller_who_oversleeps_loses_no_rate():
    shaper = Shaper(RateTrace([(1.0, 1000.0)]))
    shaper.push("a", b"x" * 1000, 0.0)
    assert sum(len(data) for _, data in shaper.pop(0.5)) == pytest.approx(500, abs=64)
    assert sum(len(data) for _, data in shaper.pop(1.0)) == pytest.approx(500, abs=64)
    assert shaper.next_s() is None


def test_a_zero_rate_holds_bytes_and_they_come_after_it():
    shaper = Shaper(RateTrace([(1.0, 1000.0), (2.0, 0.0)]))
    shaper.push("a", b"x" * 100, 1.5)
    assert drain(shaper, 2.99, start_s=1.5) == []
    assert sum(len(data) for _, data in shaper.pop(3.1)) == 100


def test_a_dead_link_asks_for_no_wake_up():
    shaper = Shaper(RateTrace([(1.0, 0.0)]))
    shaper.push("a", b"x", 0.0)
    assert shaper.pop(1e6) == []
    assert shaper.next_s() == math.inf


def test_without_a_rate_there_is_only_the_delay():
    shaper = Shaper(None, delay_s=0.01)
    shaper.push("a", b"x" * 100_000, 1.0)
    assert shaper.pop(1.009) == []
    assert sum(len(data) for _, data in shaper.pop(1.01)) == 100_000


def test_two_flows_share_one_bucket_evenly():
    shaper = Shaper(RateTrace([(1.0, 10_000.0)]))
    shaper.push("a", b"a" * 5000, 0.0)
    shaper.push("b", b"b" * 5000, 0.0)
    halfway = drain(shaper, 0.5)
    assert sum(len(data) for _, flow, data in halfway if flow == "a") == pytest.approx(2500, abs=130)
    assert sum(len(data) for _, flow, data in halfway if flow == "b") == pytest.approx(2500, abs=130)


def test_a_short_message_does_not_wait_for_anothers_bulk():
    shaper = Shaper(RateTrace([(1.0, 10_000.0)]))
    shaper.push("bulk", b"x" * 10_000, 0.0)
    shaper.pop(0.1)
    shaper.push("frame", b"y" * 60, 0.1)
    came_s = next(now_s for now_s, flow, _ in drain(shaper, 1.0, start_s=0.1) if flow == "frame")
    assert came_s - 0.1 < 0.020


def test_bytes_that_come_after_a_long_sleep_waste_none_of_it():
    shaper = Shaper(RateTrace([(1.0, 1000.0)]))
    shaper.push("a", b"1" * 500, 0.0)
    shaper.push("b", b"2" * 100, 0.3)  # nobody looked in between
    assert sum(len(data) for flow, data in shaper.pop(0.3) if flow == "a") >= 256
    assert sum(len(data) for _, data in shaper.pop(0.601)) + 256 >= 600


def test_the_end_of_a_flow_comes_after_its_bytes():
    shaper = Shaper(RateTrace([(1.0, 1000.0)]), delay_s=0.1)
    shaper.push("a", b"x" * 100, 0.0)
    shaper.push("a", b"", 0.0)
    came = [data for _, _, data in drain(shaper, 1.0)]
    assert b"".join(came) == b"x" * 100
    assert came[-1] == b""
    assert b"" not in came[:-1]


def test_a_discarded_flow_leaves_the_other_alone():
    shaper = Shaper(RateTrace([(1.0, 1000.0)]), delay_s=0.1)
    shaper.push("a", b"a" * 500, 0.0)
    shaper.push("b", b"b" * 100, 0.0)
    shaper.pop(0.15)
    shaper.discard("a")
    assert shaper.waiting_bytes("a") == 0
    rest = drain(shaper, 2.0, start_s=0.15)
    assert {flow for _, flow, _ in rest} == {"b"}
    assert sum(len(data) for _, _, data in rest) == 100


def test_waiting_bytes_shrink_as_they_are_transmitted():
    shaper = Shaper(RateTrace([(1.0, 1000.0)]), delay_s=5.0)
    shaper.push("a", b"x" * 1000, 0.0)
    before = shaper.waiting_bytes("a")
    shaper.pop(0.5)
    assert before > 900
    assert shaper.waiting_bytes("a") == pytest.approx(500, abs=64)
    shaper.pop(1.0)
    assert shaper.waiting_bytes("a") == 0


messages = st.lists(
    st.tuples(st.sampled_from("abc"), st.binary(min_size=1, max_size=3000), st.floats(0.0, 0.3)),
    min_size=1,
    max_size=15,
)


@given(messages, st.floats(0.0, 0.2), st.floats(0.001, 0.5))
def test_every_byte_comes_out_once_in_order_and_not_too_early(pushed, delay_s, step_s):
    trace = RateTrace([(0.5, 20_000.0), (0.2, 0.0), (0.3, 5_000.0)])
    shaper = Shaper(trace, delay_s=delay_s)
    sent: dict[str, bytes] = {}
    now_s, came = 0.0, []
    for flow, data, gap_s in pushed:
        now_s += gap_s
        sent[flow] = sent.get(flow, b"") + data
        shaper.push(flow, data, now_s)
        came += [(now_s, *entry) for entry in shaper.pop(now_s)]
    came += drain(shaper, now_s + 60.0, step_s=step_s, start_s=now_s)
    for flow, data in sent.items():
        assert b"".join(part for _, other, part in came if other == flow) == data
    total = 0
    for at_s, _, part in came:
        total += len(part)
        assert trace.bytes_between(0.0, max(0.0, at_s - delay_s)) >= total - 1e-3


def test_a_slower_trace_stretches_what_is_under_way():
    shaper = Shaper(RateTrace([(1.0, 1000.0)]), delay_s=0.05)
    shaper.push("a", b"x" * 64, 0.0)  # one quantum, due out at 0.064 s
    shaper.retrace(RateTrace([(1.0, 100.0)]), 0.032)  # half of it is still to go
    assert shaper.pop(0.352 + 0.05 - 0.001) == []
    assert shaper.pop(0.352 + 0.05 + 0.001) == [("a", b"x" * 64)]


def test_a_dead_link_that_gets_a_rate_delivers_what_waited():
    shaper = Shaper(RateTrace([(1.0, 0.0)]))
    shaper.push("a", b"x" * 500, 0.0)
    assert shaper.pop(10.0) == []
    shaper.retrace(RateTrace([(1.0, 1000.0)]), 10.0)
    assert sum(len(data) for _, data in shaper.pop(10.51)) == 500
    assert shaper.next_s() is None


def test_a_link_without_limit_can_get_one_and_lose_it_again():
    shaper = Shaper(None)
    shaper.retrace(RateTrace([(1.0, 1000.0)]), 1.0)
    shaper.push("a", b"x" * 1000, 1.0)
    assert sum(len(data) for _, data in shaper.pop(1.5)) == pytest.approx(500, abs=64)
    shaper.retrace(None, 1.5)
    assert sum(len(data) for _, data in shaper.pop(1.5)) == pytest.approx(500, abs=64)


def test_a_trace_that_holds_again_is_where_it_would_be():
    trace = RateTrace([(1.0, 1000.0), (1.0, 0.0)])
    shaper = Shaper(trace)
    shaper.retrace(RateTrace([(1.0, 5000.0)]), 0.2)
    shaper.retrace(trace, 1.5, start_s=0.0)
    shaper.push("a", b"x" * 100, 1.5)
    assert shaper.pop(1.99) == []
    assert sum(len(data) for _, data in shaper.pop(2.11)) == 100


def test_a_change_of_rate_outlives_a_flow_that_was_discarded():
    shaper = Shaper(RateTrace([(1.0, 100.0)]))
    shaper.push("a", b"a" * 64, 0.0)
    shaper.discard("a")
    shaper.retrace(RateTrace([(1.0, 1000.0)]), 0.1)
    shaper.push("b", b"b" * 100, 0.1)
    assert sum(len(data) for _, data in shaper.pop(0.201)) == 100


@given(
    sizes=st.lists(st.integers(1, 400), min_size=1, max_size=8),
    changes=st.lists(st.tuples(st.floats(0.01, 0.5), st.sampled_from([0.0, 50.0, 1e3, 1e5])), max_size=8),
)
def test_however_the_rate_changes_every_byte_comes_once_and_in_order(sizes, changes):
    shaper = Shaper(RateTrace([(1.0, 1000.0)]))
    sent = b"".join(bytes([number]) * size for number, size in enumerate(sizes))
    for number, size in enumerate(sizes):
        shaper.push("a", bytes([number]) * size, 0.0)
    now_s, came = 0.0, b""
    for pause_s, rate in changes:
        now_s += pause_s
        came += b"".join(data for _, data in shaper.pop(now_s))
        shaper.retrace(RateTrace([(1.0, rate)]), now_s)
    shaper.retrace(RateTrace([(1.0, 1e6)]), now_s)
    came += b"".join(data for _, data in shaper.pop(now_s + 1.0))
    assert came == sent
