"""Results over MQTT: every one is a message of its own on one topic.

Decides what happens while the broker is away: results are lost, not kept, because an old answer is of no use
to whoever acts on them. The library reconnects by itself.
"""

from __future__ import annotations

import msgspec

from isthmus.device_agents.delivery.results import Result
from isthmus.runtime.mqtt import make_client, parse_topic

# Messages that the library holds for a connection that stands still.
_MOST_QUEUED = 100


class MqttSink:
    """Publishes results (QoS 0, MQTT 3.1.1) to `mqtt://[USER@]HOST[:PORT]/TOPIC`.

    See `runtime.mqtt` for passwords.

    Raises:
        InputError: If the address is not of that form.
        MissingExtraError: If paho-mqtt is not installed.
    """

    def __init__(self, target: str) -> None:
        at = parse_topic(target, what="results")
        self._client = make_client(at, what="results over MQTT")
        self._topic, self._where = at.topic, at.where
        self._encoder = msgspec.json.Encoder()
        self._client.max_queued_messages_set(_MOST_QUEUED)
        # Returns at once; a broker that is not there yet is found later.
        self._client.connect_async(at.host, at.port)
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
