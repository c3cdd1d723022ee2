from isthmus.runtime.server.restarts import Restarts


def test_pauses_double_up_to_the_longest():
    restarts = Restarts(most=10, first_s=0.1, longest_s=1.0)
    assert [restarts.pause_s(0.0) for _ in range(6)] == [0.1, 0.2, 0.4, 0.8, 1.0, 1.0]


def test_too_many_quick_deaths_are_given_up():
    restarts = Restarts(most=3)
    assert [restarts.pause_s(1.0) is None for _ in range(3)] == [False, False, True]


def test_a_long_life_starts_the_count_anew():
    restarts = Restarts(most=3, quick_s=10.0)
    restarts.pause_s(1.0)
    restarts.pause_s(1.0)
    assert restarts.pause_s(60.0) == 0.1
    assert restarts.quick_deaths == 1
