"""Options of both ends of a connection: how soon a dead peer is noticed, and how large a message may be.

A stopped peer's kernel keeps acknowledging, so without pings nothing is noticed for minutes. gRPC's
`keepalive_timeout_ms` alone leaves its own ping timeout of a minute in force; the two must be set together. A
server drops a peer that pings more often than it allows (`too_many_pings`): ours allows what our agents do, a
server of another kind allows about one ping in five minutes.
"""

from __future__ import annotations

from typing import Final

# gRPC's own default, spelled out because both ends must agree on it.
MAX_MESSAGE_BYTES: Final = 4 << 20

# After so long without a byte from the other end it is asked, and after so much more it is given up: a hung
# peer is noticed within 6 s, and a link whose round trip takes 3.5 s is not taken for one.
_PING_EVERY_MS = 2_000
_PING_TIMEOUT_MS = 3_500
# What gRPC's default server allows while nothing is sent, and a little.
_GENTLE_PING_EVERY_MS = 310_000
_HANDSHAKE_TIMEOUT_MS = 10_000
# What a server reads of a client ahead of answering it. gRPC's own window grows with the bandwidth it
# estimates, to several megabytes for a client that never reads its answers. This one fills 80 Mbit/s at a
# round trip of 0.1 s.
_SERVER_WINDOW_BYTES = 1 << 20

Options = tuple[tuple[str, int], ...]

_BOTH_ENDS: Options = (
    ("grpc.keepalive_time_ms", _PING_EVERY_MS),
    ("grpc.keepalive_timeout_ms", _PING_TIMEOUT_MS),
    ("grpc.http2.ping_timeout_ms", _PING_TIMEOUT_MS),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),  # 0 = no limit
)
_GENTLE: Options = (
    ("grpc.keepalive_time_ms", _GENTLE_PING_EVERY_MS),
    ("grpc.keepalive_timeout_ms", _PING_TIMEOUT_MS),
    ("grpc.http2.ping_timeout_ms", _PING_TIMEOUT_MS),
)


def channel_options(
    max_message_bytes: int = MAX_MESSAGE_BYTES, *, handshake_s: float = 2.0, gentle: bool = False
) -> Options:
    """Return the options of an agent's channel.

    Args:
        max_message_bytes: Largest message it takes.
        handshake_s: Seconds that TCP's, TLS's and HTTP/2's handshakes may take together, four round trips.
        gentle: Ping as seldom as a server that is not ours allows; that it hangs shows in missing answers.
    """
    return (
        *(_GENTLE if gentle else _BOTH_ENDS),
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


def server_options(
    max_message_bytes: int = MAX_MESSAGE_BYTES, *, max_connections: int | None = None
) -> Options:
    """Return the options of a server.

    Args:
        max_message_bytes: Largest message it takes or sends.
        max_connections: Connections beyond so many are closed at once; None: no limit.
    """
    limits = () if max_connections is None else (("grpc.max_allowed_incoming_connections", max_connections),)
    return (
        *limits,
        *_BOTH_ENDS,
        ("grpc.max_send_message_length", max_message_bytes),
        ("grpc.max_receive_message_length", max_message_bytes),
        ("grpc.http2.bdp_probe", 0),
        ("grpc.http2.lookahead_bytes", _SERVER_WINDOW_BYTES),
        ("grpc.http2.min_ping_interval_without_data_ms", _PING_EVERY_MS // 2),
        # A connection that never gets through its handshake takes one of the places.
        ("grpc.server_handshake_timeout_ms", _HANDSHAKE_TIMEOUT_MS),
        # Without this a second server binds the same port, and the kernel deals connections out to both.
        ("grpc.so_reuseport", 0),
    )


CHANNEL_OPTIONS: Final[Options] = channel_options()
