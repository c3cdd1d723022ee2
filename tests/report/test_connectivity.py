import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from isthmus.report.connectivity import ConnectedRule, Interval, disconnections, guard_s, outages
from isthmus.report.links import links_of, shapes_of
from isthmus.runtime.events import LinkEvent, ShapeEvent


def link(at_s: float, connected: bool) -> LinkEvent:
    return LinkEvent(at_s=at_s, connected=connected, rate_bytes_per_s=None, rtt_s=None, backlog_bytes=0)


def shape(at_s: float, rate: float) -> ShapeEvent:
    return ShapeEvent(at_s=at_s, rate_bytes_per_s=rate)


def mask_of(captured: list[float], **options: object) -> list[bool] | None:
    chosen = {"links": [], "shapes": [], "gaps": [], "deadline_s": 0.1} | options
    links, shapes = links_of(chosen.pop("links")), shapes_of(chosen.pop("shapes"))  # type: ignore[arg-type]
    found = ConnectedRule(links, shapes, **chosen).mask(np.array(captured))  # type: ignore[arg-type]
    return None if found is None else found.tolist()


def test_an_outage_is_a_zero_rate_from_the_first_zero_to_the_next_rate() -> None:
    shapes = [shape(0, 100.0), shape(5, 0.0), shape(6, 0.0), shape(8, 50.0)]
    assert outages(shapes_of(shapes), start_s=0, end_s=20, deadline_s=0.1) == (
        Interval(start_s=5, end_s=8, kind="outage"),
    )


def test_a_gap_shorter_than_the_deadline_is_no_outage() -> None:
    shapes = [shape(0, 100.0), shape(5, 0.0), shape(5.09, 100.0), shape(7, 0.0), shape(7.2, 100.0)]
    found = outages(shapes_of(shapes), start_s=0, end_s=20, deadline_s=0.1)
    assert [gap.start_s for gap in found] == [7]


def test_an_outage_that_never_ends_lasts_to_the_end_of_the_run() -> None:
    assert (
        outages(shapes_of([shape(0, 1.0), shape(5, 0.0)]), start_s=0, end_s=9, deadline_s=0.1)[0].end_s == 9
    )


def test_outages_are_cut_to_the_run() -> None:
    shapes = [shape(-5, 0.0), shape(1, 10.0), shape(8, 0.0), shape(30, 10.0), shape(31, 0.0), shape(40, 1.0)]
    found = outages(shapes_of(shapes), start_s=0, end_s=10, deadline_s=0.1)
    assert [(gap.start_s, gap.end_s) for gap in found] == [(0, 1), (8, 10)]


def test_a_disconnection_lasts_until_the_next_event_that_says_connected() -> None:
    links = [link(0, True), link(1, False), link(2, False), link(3, True), link(4, False)]
    found = disconnections(links_of(links), start_s=0, end_s=5)
    assert [(gap.start_s, gap.end_s) for gap in found] == [(1, 3), (4, 5)]
    assert {gap.kind for gap in found} == {"disconnected"}


def test_both_neighbouring_link_events_must_say_connected() -> None:
    links = [link(0, True), link(1, True), link(2, False), link(3, True), link(4, True)]
    assert mask_of([0.5, 1.5, 2.5, 3.5], links=links) == [True, False, False, True]


def test_before_the_first_link_event_nothing_counts_and_after_the_last_that_one_decides() -> None:
    assert mask_of([-1.0, 9.0], links=[link(0, True), link(1, True)]) == [False, True]
    assert mask_of([9.0], links=[link(0, True), link(1, False)]) == [False]


def test_frames_within_the_guard_of_an_outage_do_not_count() -> None:
    shapes = [shape(0, 10.0), shape(10, 0.0), shape(12, 10.0)]
    gaps = outages(shapes_of(shapes), start_s=0, end_s=20, deadline_s=0.1)
    captured = [8.9, 9.0, 9.01, 11.0, 12.99, 13.0]
    assert mask_of(captured, shapes=shapes, gaps=gaps) == [True, True, False, False, False, True]


def test_the_guard_is_a_deadline_but_at_least_a_second() -> None:
    assert guard_s(0.15) == 1.0
    assert guard_s(3.0) == 3.0


def test_without_any_log_of_the_link_nothing_is_claimed() -> None:
    assert mask_of([1.0]) is None


def test_an_emulated_link_without_outage_leaves_every_frame_connected() -> None:
    assert mask_of([1.0, 2.0], shapes=[shape(0, 5.0)]) == [True, True]


@settings(max_examples=50)
@given(
    st.lists(st.booleans(), min_size=1, max_size=12),
    st.lists(st.floats(0, 12, allow_nan=False), min_size=1, max_size=30),
    st.tuples(st.floats(0, 6), st.floats(0.2, 5)),
)
def test_the_mask_is_what_the_definition_says_frame_by_frame(
    states: list[bool], captured: list[float], outage: tuple[float, float]
) -> None:
    links = [link(float(second), state) for second, state in enumerate(states)]
    gap = Interval(start_s=outage[0], end_s=outage[0] + outage[1], kind="outage")
    found = mask_of(captured, links=links, shapes=[shape(0, 1.0)], gaps=[gap])
    assert found is not None
    for at_s, counted in zip(captured, found, strict=True):
        before = [event.connected for event in links if event.at_s <= at_s][-1:]
        after = [event.connected for event in links if event.at_s > at_s][:1]
        far = at_s <= gap.start_s - 1.0 or at_s >= gap.end_s + 1.0
        assert counted == (before == [True] and all(after) and far)
