"""A smart plug over MQTT, by a broker of a few lines that speaks CONNECT, SUBSCRIBE and PUBLISH."""

import socket
import threading

import pytest

from isthmus.runtime.energy import open_meter
from isthmus.runtime.errors import InputError

pytest.importorskip("paho.mqtt", reason="the extra 'mqtt' is not installed")

CONNECT, SUBSCRIBE, DISCONNECT = 0x10, 0x80, 0xE0
PATIENCE_S = 10.0


class Broker:
    """Takes one client and publishes to it what the test says."""

    def __init__(self, refuse=0):
        self.refuse = refuse
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.subscribed = threading.Event()
        self.topics = []
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()

    def _serve(self):
        try:
            self.connection, _ = self.listener.accept()
        except OSError:
            return
        with self.connection.makefile("rb") as stream:
            while head := stream.read(2):
                kind, body = head[0] & 0xF0, stream.read(head[1])
                if kind == CONNECT:
                    self.connection.sendall(bytes([0x20, 2, 0, self.refuse]))
                elif kind == SUBSCRIBE:
                    self.topics.append(body[4:-1].decode())
                    self.connection.sendall(b"\x90\x03" + body[:2] + b"\x00")
                    self.subscribed.set()

    def publish(self, topic, text):
        name, body = topic.encode(), text.encode()
        self.connection.sendall(bytes([0x30, 2 + len(name) + len(body), 0, len(name)]) + name + body)

    def close(self):
        self.listener.close()
        self.connection.shutdown(socket.SHUT_RDWR)
        self.connection.close()
        self.thread.join(PATIENCE_S)


def test_watts_of_a_smart_plug(clock, wait_until):
    broker = Broker()
    meter = open_meter(f"mqtt://127.0.0.1:{broker.port}/plug/sensor?key=ENERGY.Power", clock=clock)
    try:
        assert meter.source == "mqtt"
        assert meter.read_j() is None
        assert broker.subscribed.wait(PATIENCE_S)
        assert broker.topics == ["plug/sensor"]
        broker.publish("plug/sensor", '{"ENERGY":{"Power":5}}')
        wait_until(lambda: meter.read_j() == 0.0)
        clock.pass_s(10.0)
        broker.publish("plug/sensor", '{"ENERGY":{"Power":7}}')
        wait_until(lambda: meter.read_j() == pytest.approx(60.0))
        broker.close()
        wait_until(lambda: meter.read_j() is None)
        assert "no connection" in meter.trouble
    finally:
        meter.close()


def test_a_broker_that_refuses_is_named(clock, wait_until):
    broker = Broker(refuse=5)  # not authorised
    meter = open_meter(f"mqtt://127.0.0.1:{broker.port}/plug", clock=clock)
    try:
        wait_until(lambda: f"127.0.0.1:{broker.port}" in (meter.trouble or ""))
        assert meter.read_j() is None
    finally:
        meter.close()
        broker.close()


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("mqtt://localhost", "energy meter 'mqtt://localhost': give mqtt://HOST:PORT/TOPIC"),
        ("mqtt:plug", "give mqtt://HOST:PORT/TOPIC"),
        ("mqtt://me:secret@localhost/plug", "ISTHMUS_MQTT_PASSWORD"),
        ("mqtt://localhost/plug?unit=lumen", "unit 'lumen' is not known"),
    ],
)
def test_addresses_that_are_none(spec, message):
    with pytest.raises(InputError, match=message):
        open_meter(spec)
