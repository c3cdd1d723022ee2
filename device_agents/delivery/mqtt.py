"""Results over MQTT: every one is a message of its own on one topic.

Decides what happens while the broker is away: results are lost, not kept, because an old answer is of no use
to whoever acts on them. The library reconnects by itself.
"""

from __future__ import annotations

import os
from urllib.parse import unquote, urlsplit

import msgspec

from isthmus.device_agents.delivery.results import Result
from isthmus.runtime.errors import InputError, MissingExtraError

_PORT = 1883
# Messages that the library holds for a connection that stands still.
_MOST_QUEUED = 100
_LONGEST_PAUSE_S = 10


class MqttSink:
    """Publishes results (QoS 0, MQTT 3.1.1) to `mqtt://[USER@]HOST[:PORT]/TOPIC`.

    A password comes from the environment variable ISTHMUS_MQTT_PASSWORD, never from the address, which other
    users of the machine can read in the list of processes. Without TLS: use a broker on this host or network.

    Raises:
        InputError: If the address is not of that form.
        MissingExtraError: If paho-mqtt is not installed.
    """

    def __init__(self, target: str) -> None:
        host, port, topic, user = _parse(target)
        try:
            from paho.mqtt.client import Client
            from paho.mqtt.enums import CallbackAPIVersion
        except ImportError:
            raise MissingExtraError("results over MQTT", "mqtt") from None
        self._topic = topic
        self._where = f"mqtt broker {host}:{port}"
        self._encoder = msgspec.json.Encoder()
        self._client = Client(CallbackAPIVersion.VERSION2)
        self._client.max_queued_messages_set(_MOST_QUEUED)
        self._client.reconnect_delay_set(1, _LONGEST_PAUSE_S)
        if user:
            self._client.username_pw_set(user, os.environ.get("ISTHMUS_MQTT_PASSWORD"))
        # Returns at once; a broker that is not there yet is found later.
        self._client.connect_async(host, port)
        self._client.loop_start()

    def put(self, result: Result) -> None:
        """Publish one result.

        Raises:
            OSError: If there is no connection to the broker.
        """
        message = self._client.publish(self._topic, self._encoder.encode(result))
        if message.rc != 0:
            raise OSError(f"no connection to the {self._where}")

    def close(self) -> None:
        """Say goodbye to the broker."""
        self._client.disconnect()
        self._client.loop_stop()


def _parse(target: str) -> tuple[str, int, str, str]:
    try:
        parts = urlsplit(target)
        host, port, topic, user = parts.hostname, parts.port or _PORT, parts.path[1:], parts.username or ""
    except ValueError:  # a port that is no number
        host = topic = None
    # "#" and "+" are wildcards, which only a reader may use.
    if not host or not topic or parts.scheme != "mqtt" or any(sign in target for sign in "#+?"):
        raise InputError(
            f"results {target!r}: give mqtt://HOST:PORT/TOPIC, for example mqtt://localhost/door"
        )
    if parts.password:
        raise InputError("results: a password in an address can be read by others; set ISTHMUS_MQTT_PASSWORD")
    return host, port, unquote(topic), user
