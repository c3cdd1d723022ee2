"""Word to systemd: datagrams on the socket it names, and silence without one."""

import socket

import pytest

from isthmus.device_agents.operation.notify import ServiceManager


@pytest.fixture(params=["file", "abstract"])
def manager(request, tmp_path):
    """Return a socket that listens as systemd does, and what stands in NOTIFY_SOCKET."""
    name = str(tmp_path / "notify") if request.param == "file" else f"@isthmus-test-{tmp_path.name}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind("\0" + name[1:] if name[0] == "@" else name)
        listener.settimeout(5)
        yield listener, {"NOTIFY_SOCKET": name}


def test_a_service_says_that_it_is_ready_alive_and_stopping(manager):
    listener, environ = manager
    service = ServiceManager(environ)
    service.ready()
    service.alive("12 frames")
    service.stopping()
    service.alive("said to nobody")
    assert [listener.recv(200) for _ in range(3)] == [
        b"READY=1",
        b"WATCHDOG=1\nSTATUS=12 frames",
        b"STOPPING=1",
    ]
    listener.settimeout(0.0)
    with pytest.raises(BlockingIOError):
        listener.recv(200)


@pytest.mark.parametrize("environ", [{}, {"NOTIFY_SOCKET": ""}, {"NOTIFY_SOCKET": "/nowhere/at/all"}])
def test_without_a_manager_that_listens_nothing_happens(environ):
    service = ServiceManager(environ)
    service.ready()
    service.alive("x")
    service.stopping()
