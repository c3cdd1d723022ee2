"""Options of both ends of a connection: how soon a dead peer is noticed, and how large a message may be.

A stopped peer's kernel keeps acknowledging, so without pings nothing is noticed for minutes. gRPC's
`keepalive_timeout_ms` alone leaves its own ping timeout of a minute in force; the two must be set together. A
server drops a peer that pings more often than `min_ping_interval_without_data_ms`, so it must allow what the
other end does.
"""

from __future__ import annotations

from typing import Final

# gRPC's own default, spelled out because both ends must agree on it.
MAX_MESSAGE_BYTES: Final = 4 << 20

_PING_EVERY_MS = 10_000
_PING_TIMEOUT_MS = 5_000

Options = tuple[tuple[str, int], ...]

_BOTH_ENDS: Options = (
    ("grpc.keepalive_time_ms", _PING_EVERY_MS),
    ("grpc.keepalive_timeout_ms", _PING_TIMEOUT_MS),
    ("grpc.http2.ping_timeout_ms", _PING_TIMEOUT_MS),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),  # 0 = no limit
)


def channel_options(max_message_bytes: int = MAX_MESSAGE_BYTES, *, handshake_s: float = 2.0) -> Options:
    """Return the options of an agent's channel.

    Args:
        max_message_bytes: Largest message it takes.
        handshake_s: Seconds that TCP's and HTTP/2's handshakes may take together, three round trips.
    """
    return (
        *_BOTH_ENDS,
        ("grpc.max_send_message_length", max_message_bytes),
        ("grpc.max_receive_message_length", max_message_bytes),
        # A lost link should be back within seconds of its return; gRPC's defaults wait 1 s to 2 min between
        # attempts and give a single attempt 20 s.
        ("grpc.initial_reconnect_backoff_ms", 200),
        ("grpc.min_reconnect_backoff_ms", round(handshake_s * 1e3)),
        ("grpc.max_reconnect_backoff_ms", 5_000),
        # A new channel to the same server must not inherit the backoff of the one it replaces.
        ("grpc.use_local_subchannel_pool", 1),
    )


def server_options(max_message_bytes: int = MAX_MESSAGE_BYTES) -> Options:
    """Return the options of a server that takes messages of at most `max_message_bytes`."""
    return (
        *_BOTH_ENDS,
        ("grpc.max_send_message_length", max_message_bytes),
        ("grpc.max_receive_message_length", max_message_bytes),
        ("grpc.http2.min_ping_interval_without_data_ms", _PING_EVERY_MS // 2),
        # Without this a second server binds the same port, and the kernel deals connections out to both.
        ("grpc.so_reuseport", 0),
    )


CHANNEL_OPTIONS: Final[Options] = channel_options()
