"""Whole packets over a link: instants, loss and a full queue, all on a clock we hold."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.runtime.links import RateTrace
from isthmus.runtime.links.packets import PacketLink

KB = RateTrace([(1.0, 1000.0)])


def test_packets_leave_one_after_the_other_and_travel():
    link = PacketLink(KB, delay_s=0.5)
    link.push(b"a" * 100, 10.0)
    link.push(b"b" * 200, 10.0)
    assert link.next_s() == pytest.approx(10.6)
    assert link.pop(10.59) == []
    assert link.pop(10.61) == [b"a" * 100]
    assert link.next_s() == pytest.approx(10.8)
    assert link.pop(11.0) == [b"b" * 200]
    assert (link.next_s(), link.delivered_bytes, link.begun_s) == (math.inf, 300, 10.0)


def test_the_trace_begins_with_the_first_packet():
    link = PacketLink(RateTrace([(1.0, 1000.0), (2.0, 0.0)]))
    link.push(b"x" * 1000, 50.0)
    link.push(b"y", 50.0)
    assert len(link.pop(51.0)) == 1
    assert link.pop(52.9) == []  # the silence
    assert link.pop(53.01) == [b"y"]


def test_a_packet_that_finds_the_queue_full_is_dropped():
    link = PacketLink(KB, queue_bytes=250)
    for _ in range(4):
        link.push(b"x" * 100, 0.0)
    assert link.dropped == 2
    link.push(b"x" * 100, 0.1001)  # one has left
    assert link.dropped == 2
    link.push(b"x" * 5000, 0.5)  # larger than the queue, which is empty by now
    assert (link.dropped, len(link.pop(10.0))) == (2, 4)


def test_without_a_limit_only_the_delay_counts():
    link = PacketLink(None, delay_s=0.02, queue_bytes=1)
    for _ in range(50):
        link.push(b"x" * 1500, 1.0)
    assert (len(link.pop(1.02)), link.dropped) == (50, 0)


def test_loss_is_the_share_asked_for_and_the_same_for_a_seed():
    links = [PacketLink(None, loss=0.1, seed=seed) for seed in (1, 1, 2)]
    for link in links:
        for number in range(5000):
            link.push(number.to_bytes(2, "big"), 0.0)
    came = [link.pop(0.0) for link in links]
    assert came[0] == came[1] != came[2]
    assert links[0].lost == pytest.approx(500, abs=80)
    assert links[0].lost + len(came[0]) == 5000


def test_a_dead_link_delivers_nothing_and_fills():
    link = PacketLink(RateTrace([(1.0, 0.0)]), queue_bytes=300)
    for _ in range(10):
        link.push(b"x" * 100, 0.0)
    assert (link.pop(1e9), link.next_s(), link.dropped) == ([], math.inf, 7)


@given(
    st.lists(st.tuples(st.floats(0.0, 0.5), st.integers(20, 1500)), min_size=1, max_size=40),
    st.floats(500.0, 1e6),
    st.floats(0.0, 0.2),
)
def test_every_packet_comes_out_once_in_order_and_no_faster_than_the_link(packets, rate, delay_s):
    link, now_s = PacketLink(RateTrace([(1.0, rate)]), delay_s=delay_s, queue_bytes=5000), 3.0
    sent = []
    for number, (gap_s, size) in enumerate(packets):
        now_s += gap_s
        dropped = link.dropped
        packet = number.to_bytes(2, "big") * (size // 2)
        link.push(packet, now_s)
        if link.dropped == dropped:
            sent.append(packet)
    last_s = 3.0
    came = []
    while link.next_s() < math.inf:
        assert link.next_s() >= last_s
        last_s = link.next_s()
        came += link.pop(last_s)
    assert came == sent
    assert last_s - 3.0 >= sum(map(len, sent)) / rate * (1 - 1e-9) + delay_s - 1e-9 or not sent
