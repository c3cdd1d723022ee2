from isthmus.runtime.server.relay import Relay

LOAD = {"event": "change", "change": "load", "model": "m", "token": "7"}
UNLOAD = {**LOAD, "change": "unload", "token": "8"}


def test_an_order_goes_to_all_others_and_its_answer_back_when_all_have_obeyed():
    relay = Relay()
    orders, due = relay.ask(1, LOAD, [0, 2])
    assert due == []
    assert [number for number, _ in orders] == [0, 2]
    assert {order["change"] for _, order in orders} == {"load"}
    token = orders[0][1]["token"]
    assert relay.answered(2, token, "") == []
    assert relay.answered(0, token, "") == [(1, {"told": "7", "errors": []})]


def test_what_went_wrong_comes_back_with_whose_it_was():
    relay = Relay()
    orders, _ = relay.ask(0, LOAD, [1, 2])
    token = orders[0][1]["token"]
    relay.answered(1, token, "no memory")
    assert relay.answered(2, token, "") == [(0, {"told": "7", "errors": ["process 1: no memory"]})]


def test_alone_there_is_nobody_to_wait_for():
    assert Relay().ask(0, LOAD, []) == ([], [(0, {"told": "7", "errors": []})])


def test_nobody_waits_for_one_that_has_gone():
    relay = Relay()
    orders, _ = relay.ask(0, LOAD, [1, 2])
    relay.answered(2, orders[0][1]["token"], "")
    assert relay.gone(1) == [(0, {"told": "7", "errors": []})]
    assert relay.gone(2) == []


def test_one_that_has_gone_is_told_nothing():
    relay = Relay()
    relay.ask(0, LOAD, [1])
    relay.gone(0)
    assert relay.gone(1) == [(0, {"told": "7", "errors": []})]  # another process of that number drops it
    relay.ask(1, LOAD, [1])
    assert relay.gone(1) == []


def test_two_changes_at_once_are_told_apart():
    relay = Relay()
    (first, *_), _ = relay.ask(0, LOAD, [1])
    (second, *_), _ = relay.ask(1, {**LOAD, "token": "9"}, [0])
    assert relay.answered(0, second[1]["token"], "") == [(1, {"told": "9", "errors": []})]
    assert relay.answered(1, first[1]["token"], "") == [(0, {"told": "7", "errors": []})]


def test_an_answer_that_nobody_asked_for_is_dropped():
    relay = Relay()
    orders, _ = relay.ask(0, LOAD, [1])
    assert relay.answered(2, orders[0][1]["token"], "") == []
    assert relay.answered(1, "77", "") == []


def test_a_worker_that_starts_anew_repeats_what_is_unloaded_still():
    relay = Relay()
    relay.ask(0, UNLOAD, [1])
    relay.ask(0, {**UNLOAD, "model": "n"}, [1])
    assert [order["model"] for order in relay.repeated()] == ["m", "n"]
    assert {order["change"] for order in relay.repeated()} == {"unload"}
    relay.ask(1, LOAD, [0])
    assert [order["model"] for order in relay.repeated()] == ["n"]
