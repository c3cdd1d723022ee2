"""Where an MQTT broker is, and a client that reaches it: for results that leave and readings that come.

MQTT 3.1.1 without TLS: use a broker on this host or network. A password comes from the environment variable
ISTHMUS_MQTT_PASSWORD, never from an address, which other users of the machine can read in the list of
processes.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from isthmus.runtime.errors import InputError, MissingExtraError

if TYPE_CHECKING:
    from paho.mqtt.client import Client

_PORT = 1883
_LONGEST_PAUSE_S = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerTopic:
    """One topic of one broker.

    Attributes:
        host, port: Where the broker is.
        topic: Without wildcards.
        user: Whom to say we are; empty: nobody.
    """

    host: str
    port: int
    topic: str
    user: str = ""

    @property
    def where(self) -> str:
        """The broker, for messages."""
        return f"mqtt broker {self.host}:{self.port}"


def parse_topic(address: str, *, what: str) -> BrokerTopic:
    """Return what `mqtt://[USER@]HOST[:PORT]/TOPIC` names; `what` is what messages call the address.

    Raises:
        InputError: If it is not of that form, or holds a password.
    """
    try:
        parts = urlsplit(address)
        host, port, topic, user = parts.hostname, parts.port or _PORT, parts.path[1:], parts.username or ""
    except ValueError:  # a port that is no number
        host = topic = None
    # "#" and "+" are wildcards, which name no single topic.
    if not host or not topic or parts.scheme != "mqtt" or any(sign in address for sign in "#+?"):
        raise InputError(
            f"{what} {address!r}: give mqtt://HOST:PORT/TOPIC, for example mqtt://localhost/door"
        )
    if parts.password:
        raise InputError(f"{what}: a password in an address can be read by others; set ISTHMUS_MQTT_PASSWORD")
    return BrokerTopic(host=host, port=port, topic=unquote(topic), user=user)


def make_client(at: BrokerTopic, *, what: str) -> Client:
    """Return a client that is to be connected to the broker `at`, and reconnects by itself.

    Args:
        at: The broker.
        what: The feature that needs it, for the message.

    Raises:
        MissingExtraError: If paho-mqtt is not installed.
    """
    try:
        from paho.mqtt.client import Client
        from paho.mqtt.enums import CallbackAPIVersion
    except ImportError:
        raise MissingExtraError(what, "mqtt") from None
    client = Client(CallbackAPIVersion.VERSION2)
    client.reconnect_delay_set(1, _LONGEST_PAUSE_S)
    if at.user:
        client.username_pw_set(at.user, os.environ.get("ISTHMUS_MQTT_PASSWORD"))
    return client
