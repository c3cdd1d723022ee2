from hypothesis import given
from hypothesis import strategies as st

from isthmus.runtime.control.residuals import HIGHEST, LOWEST, Residuals


def test_the_oldest_makes_room():
    residuals = Residuals(3)
    for error in (0.3, -0.2, 0.1, 0.0):
        residuals.add(error)
    assert residuals.ordered == (-0.2, 0.0, 0.1)


@given(st.lists(st.floats(-100.0, 100.0), max_size=40), st.integers(1, 12))
def test_they_are_the_last_ones_in_order_and_bounded(errors, size):
    residuals = Residuals(size)
    for error in errors:
        residuals.add(error)
    assert residuals.ordered == tuple(sorted(min(HIGHEST, max(LOWEST, e)) for e in errors[-size:]))
