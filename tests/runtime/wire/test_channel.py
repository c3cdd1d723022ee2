from isthmus.runtime.wire import (
    CHANNEL_OPTIONS,
    MAX_MESSAGE_BYTES,
    channel_options,
    server_options,
)


def test_both_ends_cap_messages_alike():
    for options in (CHANNEL_OPTIONS, server_options()):
        assert dict(options)["grpc.max_receive_message_length"] == MAX_MESSAGE_BYTES
        assert dict(options)["grpc.max_send_message_length"] == MAX_MESSAGE_BYTES
    assert dict(channel_options(5000))["grpc.max_send_message_length"] == 5000
    assert dict(server_options(5000))["grpc.max_receive_message_length"] == 5000


def test_the_server_allows_the_pings_that_the_agent_sends():
    every_ms = dict(CHANNEL_OPTIONS)["grpc.keepalive_time_ms"]
    assert dict(server_options())["grpc.http2.min_ping_interval_without_data_ms"] < every_ms


def test_a_dead_peer_is_noticed_within_6_seconds():
    for options in (dict(CHANNEL_OPTIONS), dict(server_options())):
        silence_ms = max(options["grpc.keepalive_timeout_ms"], options["grpc.http2.ping_timeout_ms"])
        assert options["grpc.keepalive_time_ms"] + silence_ms <= 6_000


def test_two_servers_never_share_a_port():
    assert dict(server_options())["grpc.so_reuseport"] == 0


def test_a_server_of_another_kind_is_pinged_as_seldom_as_it_allows():
    gentle = dict(channel_options(gentle=True))
    assert gentle["grpc.keepalive_time_ms"] > 300_000
    assert "grpc.keepalive_permit_without_calls" not in gentle
    assert gentle["grpc.max_receive_message_length"] == MAX_MESSAGE_BYTES


def test_connections_are_limited_where_it_is_asked_for():
    assert dict(server_options(max_connections=7))["grpc.max_allowed_incoming_connections"] == 7
    assert "grpc.max_allowed_incoming_connections" not in dict(server_options())


def test_a_server_reads_a_fixed_window_ahead():
    options = dict(server_options())
    assert options["grpc.http2.bdp_probe"] == 0
    assert options["grpc.http2.lookahead_bytes"] == 1 << 20
