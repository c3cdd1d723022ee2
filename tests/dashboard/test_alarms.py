import pytest

from isthmus.dashboard.alarms import AlarmBook, alarm_marks, findings
from isthmus.dashboard.fleet import Fleet
from isthmus.dashboard.servers import Server

SHIFT_S, NOW_S, UNIX_S = 900.0, 1010.0, 1.8e9
DAY_S = 86_400.0


@pytest.fixture
def judged(events):
    """Return `judged(*events, servers=())` → (kind, serious) of what is wrong with one device."""

    def judge(*said, servers=(), run=None):
        fleet = Fleet()
        for second in range(11):
            fleet.tick(NOW_S - 10 + second)
        fleet.take("cam", [run or events.run(100.0), *said], shift_s=SHIFT_S)
        fleet.tick(NOW_S)
        return list(findings(fleet, servers, now_s=NOW_S, now_unix_s=UNIX_S))

    return judge


def kinds(found):
    return [(finding.kind, finding.serious) for finding in found]


def frames(events, outcome="remote", **fields):
    return [events.frame(100.05 + number / 10, number, outcome, **fields) for number in range(99)]


def test_all_is_well(judged, events):
    assert judged(*frames(events), events.link(109.9)) == []


def test_a_lost_connection_and_a_dead_link_are_outages(judged, events):
    lost = judged(*frames(events, "exit", payload_bytes=0), events.link(109.9, connected=False))
    assert kinds(lost) == [("outage", True)]
    dead = judged(*frames(events, "exit"), events.link(109.9, rate=0.0))
    assert kinds(dead) == [("outage", True)]
    assert "answers by itself" in dead[0].text


def test_a_device_that_prefers_its_own_answers_is_no_outage(judged, events):
    assert judged(*frames(events, "exit", payload_bytes=0), events.link(109.9)) == []


def test_missed_deadlines_are_told_with_their_share(judged, events):
    late = [events.frame(108.0 + number / 50, 200 + number, "late") for number in range(25)]
    found = judged(*frames(events), *late, events.link(109.9))
    assert kinds(found) == [("deadline", False)]
    assert found[0].text == "20% of frames late or dropped"


def test_silence(judged, events):
    assert kinds(judged(events.frame(101.0))) == [("silent", True)]


def test_throttling_is_told_with_the_temperature(judged, events):
    found = judged(*frames(events), events.link(109.9, temperature_c=84.2, throttled=True))
    assert kinds(found) == [("throttling", False)]
    assert found[0].text == "slowed down at 84 °C"


@pytest.mark.parametrize(
    ("left_s", "expected", "says"),
    [
        (20 * DAY_S, [], ""),
        (5 * DAY_S, [("certificate", False)], "expires in 5 days"),
        (7200.0, [("certificate", False)], "expires in 2 hours"),
        (-1.0, [("certificate", True)], "has expired"),
    ],
)
def test_certificates_of_devices_and_servers(judged, events, left_s, expected, says):
    run = events.run(100.0, certificate_not_after_unix_s=UNIX_S + left_s)
    server = Server("http://a:1/metrics")
    server.certificate_end_unix_s = UNIX_S + left_s
    found = judged(*frames(events), events.link(109.9), run=run, servers=[server])
    assert kinds(found) == expected * 2
    assert all(says in finding.text for finding in found)


def test_a_server_that_cannot_be_read(judged, events):
    server = Server("http://a:1/metrics")
    server.failed("Connection refused")
    found = judged(*frames(events), events.link(109.9), servers=[server])
    assert kinds(found) == [("server", True)]


def test_an_alarm_has_a_beginning_and_an_end(judged, events):
    book = AlarmBook()
    outage = judged(*frames(events, "exit", payload_bytes=0), events.link(109.9, connected=False))
    book.update(outage, now_s=10.0, now_unix_s=500.0)
    book.update(outage, now_s=14.0, now_unix_s=504.0)
    (alarm,) = book.shown()["now"]
    assert (alarm["kind"], alarm["subject"], alarm["since_unix_s"]) == ("outage", "cam", 500.0)
    assert alarm_marks(book, ["other", "cam"]) == [0, 2]
    book.update([], now_s=15.0, now_unix_s=505.0)
    assert book.shown()["counts"] == {"outage": 1}  # it may only flicker
    book.update([], now_s=18.0, now_unix_s=508.0)
    shown = book.shown()
    assert (shown["counts"], shown["now"]) == ({}, [])
    assert shown["passed"][0]["until_unix_s"] == 504.0
    assert alarm_marks(book, ["cam"]) == [0]
