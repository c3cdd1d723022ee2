"""Results over MQTT 3.1.1, to a broker of a few lines that speaks CONNECT, PUBLISH and DISCONNECT."""

import contextlib
import json
import socket
import threading

import pytest

from isthmus.device_agents.delivery.mqtt import MqttSink
from isthmus.device_agents.delivery.results import Outbox, Result
from isthmus.runtime.errors import InputError, MissingExtraError

pytest.importorskip("paho.mqtt", reason="the extra 'mqtt' is not installed")

CONNECT, CONNACK, PUBLISH, DISCONNECT = 0x10, b"\x20\x02\x00\x00", 0x30, 0xE0


class Broker:
    """Takes one connection after the other and remembers what is published."""

    def __init__(self, port=0):
        self.listener = socket.create_server(("127.0.0.1", port))
        self.port = self.listener.getsockname()[1]
        self.connects, self.published, self.goodbyes = [], [], 0
        self.news = threading.Condition()
        self.connection = None
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()

    def _serve(self):
        while True:
            try:
                self.connection, _ = self.listener.accept()
            except OSError:
                return
            with self.connection, self.connection.makefile("rb") as stream:
                try:
                    self._converse(stream)
                except OSError:
                    continue

    def _converse(self, stream):
        while first := stream.read(1):
            length, shift = 0, 0
            while True:
                (byte,) = stream.read(1)
                length |= (byte & 0x7F) << shift
                shift += 7
                if byte < 0x80:
                    break
            body = stream.read(length)
            with self.news:
                kind = first[0] & 0xF0
                if kind == CONNECT:
                    self.connects.append(body)
                    self.connection.sendall(CONNACK)
                elif kind == PUBLISH:
                    size = int.from_bytes(body[:2], "big")
                    self.published.append((body[2 : 2 + size].decode(), body[2 + size :]))
                elif kind == DISCONNECT:
                    self.goodbyes += 1
                self.news.notify_all()

    def wait(self, condition):
        with self.news:
            assert self.news.wait_for(condition, 5)

    def close(self):
        # Wakes the thread that waits in accept.
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        if self.connection is not None:
            with contextlib.suppress(OSError):
                self.connection.shutdown(socket.SHUT_RDWR)
        self.thread.join(5)


@pytest.fixture
def broker():
    made = Broker()
    yield made
    made.close()


def _result(frame):
    return Result(frame=frame, captured_unix_s=1.0, outcome="exit", label="cat")


def test_every_result_is_a_message_on_the_topic(broker):
    sink = MqttSink(f"mqtt://127.0.0.1:{broker.port}/home/front%20door")
    broker.wait(lambda: broker.connects)
    outbox = Outbox(sink, note=lambda text: None)
    # The acknowledgement of the connection may still be on its way: results are lost until it is there.
    for frame in range(100):
        outbox.put(_result(frame))
        with broker.news:
            if broker.news.wait_for(lambda: broker.published, 0.05):
                break
    outbox.put(_result(777))
    broker.wait(lambda: json.loads(broker.published[-1][1])["frame"] == 777)
    outbox.close()
    broker.wait(lambda: broker.goodbyes)
    topics = {topic for topic, _ in broker.published}
    assert topics == {"home/front door"}
    assert json.loads(broker.published[-1][1]) == {
        "frame": 777,
        "captured_unix_s": 1.0,
        "outcome": "exit",
        "label": "cat",
    }
    assert broker.connects[0][:7] == b"\x00\x04MQTT\x04"  # 4: MQTT 3.1.1


def test_without_a_broker_results_are_lost_and_counted():
    with socket.create_server(("127.0.0.1", 0)) as reserved:
        port = reserved.getsockname()[1]
    notes = []
    outbox = Outbox(MqttSink(f"mqtt://127.0.0.1:{port}/t"), note=notes.append)
    for frame in range(3):
        outbox.put(_result(frame))
    outbox.close()
    assert outbox.lost == 3
    assert notes == [
        f"results are being lost: no connection to the mqtt broker 127.0.0.1:{port}; "
        "the run goes on without them"
    ]


def test_a_password_comes_from_the_environment_and_not_from_the_address(broker, monkeypatch):
    monkeypatch.setenv("ISTHMUS_MQTT_PASSWORD", "secret")
    sink = MqttSink(f"mqtt://camera@127.0.0.1:{broker.port}/t")
    broker.wait(lambda: broker.connects)
    sink.close()
    assert b"camera" in broker.connects[0]
    assert broker.connects[0].endswith(b"\x00\x06secret")


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("mqtt://localhost", "give mqtt://HOST:PORT/TOPIC"),
        ("mqtt://localhost/", "give mqtt://HOST:PORT/TOPIC"),
        ("mqtt:///topic", "give mqtt://HOST:PORT/TOPIC"),
        ("mqtt://localhost:no/topic", "give mqtt://HOST:PORT/TOPIC"),
        ("mqtt://localhost/all/#", "give mqtt://HOST:PORT/TOPIC"),
        ("mqtt://me:secret@localhost/t", "ISTHMUS_MQTT_PASSWORD"),
    ],
)
def test_addresses_that_are_none_are_refused(target, message):
    with pytest.raises(InputError, match=message) as error:
        MqttSink(target)
    assert "secret@" not in str(error.value)


def test_a_missing_library_is_said_with_its_extra(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "paho.mqtt.client", None)
    with pytest.raises(MissingExtraError, match=r"isthmus\[mqtt\]"):
        MqttSink("mqtt://localhost/t")
