"""An external meter that speaks over MQTT, as smart plugs do: `mqtt://HOST[:PORT]/TOPIC?key=…&unit=…`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from isthmus.runtime.energy.counting import Clock
from isthmus.runtime.energy.external import ExternalMeter, ReadingSum
from isthmus.runtime.mqtt import make_client, parse_topic

if TYPE_CHECKING:
    from paho.mqtt.client import Client, MQTTMessage


class MqttMeter(ExternalMeter):
    """Subscribes to one topic; the library's own thread brings its messages.

    A broker that is not there yet is found later; until the first message the joules are unknown.

    Args:
        address: As above; options are those of `ReadingSum`.
        clock: Monotonic seconds.

    Raises:
        InputError: If the address is not of that form.
        MissingExtraError: If paho-mqtt is not installed.
    """

    source = "mqtt"

    def __init__(self, address: str, *, clock: Clock) -> None:
        place, _, query = address.partition("?")
        at = parse_topic(place, what="energy meter")
        self._topic = at.topic
        self._where = at.where
        self._sum = ReadingSum(f"mqtt {at.topic}", query, clock=clock)
        self._client = make_client(at, what="an energy meter over MQTT")
        self._client.on_connect = self._on_connect
        self._client.on_disconnect = self._on_disconnect
        self._client.on_message = self._on_message
        self._client.connect_async(at.host, at.port)
        self._client.loop_start()

    def close(self) -> None:
        """See `EnergyMeter`."""
        self._client.disconnect()
        self._client.loop_stop()

    # What the library calls on its thread.

    def _on_connect(self, client: Client, _data: Any, _flags: Any, reason: Any, _properties: Any) -> None:
        if reason.is_failure:
            self._sum.fail(f"{self._where}: {reason}; see its user and ISTHMUS_MQTT_PASSWORD")
        else:
            client.subscribe(self._topic)

    def _on_disconnect(self, _client: Client, _data: Any, _flags: Any, reason: Any, _properties: Any) -> None:
        self._sum.fail(f"{self._where}: no connection ({reason})")

    def _on_message(self, _client: Client, _data: Any, message: MQTTMessage) -> None:
        self._sum.take(message.payload.decode("utf-8", errors="replace"))
