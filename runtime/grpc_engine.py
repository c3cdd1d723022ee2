"""Which of gRPC's two engines waits for sockets in this process.

gRPC's core has a newer engine, with threads of its own that hand every event on to the thread that asked,
and the older one, whose waiting thread reads the socket itself. That spares a way between threads per message
on each end: a third of the round trip on loopback, and nearly half together with uvloop (`isthmus bench
overhead`). gRPC calls the switch experimental: only releases that are known to have it are told, and whatever
the user has set stands.
"""

from __future__ import annotations

import os
import sys
from collections.abc import MutableMapping
from importlib.metadata import PackageNotFoundError, version

EXPERIMENTS = "GRPC_EXPERIMENTS"
OLDER_ENGINE = "-event_engine_client,-event_engine_listener"

# Releases of grpcio in which the switch was tried; one that does not know it would complain at every start.
_FIRST, _LAST = (1, 81), (1, 85)


def choose_grpc_engine(environment: MutableMapping[str, str] = os.environ) -> None:
    """Have gRPC use the engine with the shorter round trip, unless `environment` says what to use.

    Call it before anything imports gRPC, which looks once; processes that are started later inherit it.
    """
    if EXPERIMENTS not in environment and sys.platform == "linux" and _knows_switch():
        environment[EXPERIMENTS] = OLDER_ENGINE


def _knows_switch() -> bool:
    try:
        major, minor = version("grpcio").split(".")[:2]
        return _FIRST <= (int(major), int(minor)) <= _LAST
    except (PackageNotFoundError, ValueError):
        return False
