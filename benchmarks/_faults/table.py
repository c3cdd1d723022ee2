"""Every scenario, in one table."""

from __future__ import annotations

import signal
from functools import partial

from _faults import devices, links, servers, virtual
from _faults.scenario import Play, Scenario

# What failed comes back; not among the quick tests; nothing beside it.
_BACK, _SLOW, _GREEDY = "back", "slow", "greedy"


def _row(name: str, play: Play, *flags: str, backend: str = "process") -> Scenario:
    return Scenario(
        name=name,
        backend=backend,  # type: ignore[arg-type]
        play=play,
        returns=_BACK in flags,
        slow=_SLOW in flags,
        greedy=_GREEDY in flags,
    )


_SERVERS = (
    _row("server killed, started again", servers.killed, _BACK),
    _row("server killed for good", servers.killed_for_good, _SLOW),
    _row("server stopped for 3 s", servers.stopped, _BACK),
    _row("server stopped for 30 s", partial(servers.stopped, away_s=30.0), _BACK, _SLOW),
    _row("server restarted", servers.restarted, _BACK),
    _row("server drains and ends", servers.drained, _SLOW),
    _row("server with other weights and tables", servers.other_weights, _BACK),
    _row("server with another latent", servers.other_latent, _BACK, _SLOW),
    _row("server slow", partial(servers.misbehaving, way="slow"), _BACK),
    _row("server busy", partial(servers.misbehaving, way="busy"), _BACK),
    _row("server busy for 30 s", partial(servers.misbehaving, way="busy", away_s=30.0), _BACK, _SLOW),
    _row("server fails frames", partial(servers.misbehaving, way="failed"), _BACK, _SLOW),
    _row("server swallows frames", servers.swallowing, _BACK, _SLOW),
    _row("answers of a wrong type", partial(servers.misbehaving, way="bad type"), _BACK),
    _row("answers that are no numbers", partial(servers.misbehaving, way="bad scores"), _BACK, _SLOW),
    _row("answers that are no message", partial(servers.misbehaving, way="no message"), _BACK, _SLOW),
    _row("answers in another order", partial(servers.odd_answers, way="swapped")),
    _row("answers that come twice", partial(servers.odd_answers, way="twice")),
    _row("answers to unknown frames", partial(servers.odd_answers, way="unknown")),
    _row("server absent at first", servers.absent_at_first),
    _row("server accepts and says nothing", servers.mute_listener),
    _row("server's name unknown", servers.unknown_name),
    _row("failover and return", servers.failover, _BACK),
    _row("both servers die", servers.both_die, _BACK, _SLOW),
)

_LINKS = (
    _row("link cut for 1 s", partial(links.cut, lasts_s=1.0), _BACK),
    _row("link cut for 3 s", partial(links.cut, lasts_s=3.0), _BACK),
    _row("link cut for 10 s", partial(links.cut, lasts_s=10.0), _BACK, _SLOW),
    _row("link cut for 78 s", partial(links.cut, lasts_s=78.0), _BACK, _SLOW),
    _row("link cut for 3 s, RTT 100 ms", partial(links.cut, lasts_s=3.0, delay="50ms"), _BACK, _SLOW),
    _row("link at 10 kbit/s for 4 s", partial(links.cut, rate="10kbit", lasts_s=4.0), _BACK),
    _row("link at 10 kbit/s", links.thin, _SLOW),
    _row("link comes and goes", links.flapping, _BACK, _SLOW),
    _row("link cut and server replaced", links.cut_and_killed, _BACK, _SLOW),
    _row("RTT 2 s", partial(links.far_away, delay="1s")),
    _row("RTT 2 s, deadline 3 s", links.far_away_for_slow_deadlines, _SLOW),
    _row("connection half open", partial(links.half_open, lasts_s=3.0), _BACK),
    _row("link cut for 1 s", partial(links.cut_packets, lasts_s=1.0), _BACK, _SLOW, backend="netns"),
    _row("link cut for 3 s", partial(links.cut_packets, lasts_s=3.0), _BACK, backend="netns"),
    _row("link cut for 10 s", partial(links.cut_packets, lasts_s=10.0), _BACK, _SLOW, backend="netns"),
    _row("link cut for 78 s", partial(links.cut_packets, lasts_s=78.0), _BACK, _SLOW, backend="netns"),
)

_DEVICES = (
    _row("disk full", devices.full_disk),
    _row("disk full from the start", devices.full_disk_at_once),
    _row("results not read", devices.blocked_results),
    _row("wall clock set", devices.stepped_clock),
    _row("heads slower than frames", devices.slow_heads),
    _row("heads slower than frames, queued", devices.slow_heads_queued, _SLOW),
    _row("every core taken for 3 s", devices.hogged, _BACK, _SLOW, _GREEDY),
    _row("agent stopped for 3 s", devices.stopped_agent, _BACK),
    _row("source ends", devices.source_ends),
    _row("source stalls", devices.source_stalls, _BACK, _SLOW),
    _row("SIGTERM in flight", partial(devices.ended_in_flight, numbers=(signal.SIGTERM,))),
    _row("SIGINT twice in flight", partial(devices.ended_in_flight, numbers=(signal.SIGINT,) * 2)),
    _row("agent killed", devices.killed_and_started_again),
)

_VIRTUAL = tuple(
    _row(name, play, *flags, backend="virtual")
    for name, play, *flags in (
        ("link cut for 1 s", partial(virtual.link_cut, lasts_s=1.0), _BACK),
        ("link cut for 3 s", partial(virtual.link_cut, lasts_s=3.0), _BACK),
        ("link cut for 10 s", partial(virtual.link_cut, lasts_s=10.0), _BACK),
        ("link cut for 78 s", partial(virtual.link_cut, lasts_s=78.0), _BACK),
        ("link at 10 kbit/s for 60 s", partial(virtual.link_cut, lasts_s=60.0, rate=1250.0), _BACK, _SLOW),
        ("server away for 3 s", partial(virtual.server_away, lasts_s=3.0), _BACK),
        ("server away for 10 min", partial(virtual.server_away, lasts_s=600.0), _BACK, _SLOW),
        ("server busy for 60 s", partial(virtual.server_away, lasts_s=60.0, kind="busy"), _BACK, _SLOW),
        ("link comes and goes for 10 min", virtual.flapping, _SLOW),
        ("RTT 2 s", partial(virtual.throughout, delay_s=1.0)),
        ("heads slower than frames", virtual.slow_heads, _SLOW),
        ("heads slower than frames, queued", partial(virtual.slow_heads, queue_limit=3)),
    )
)

SCENARIOS: tuple[Scenario, ...] = (*_SERVERS, *_LINKS, *_DEVICES, *_VIRTUAL)
