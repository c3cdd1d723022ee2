"""Network devices whose packets this process reads and writes, and a network namespace of its own.

Linux only. A device vanishes when its descriptor is closed and a namespace when its last process is gone, so
nothing is left behind, however this process ends. Decides nothing about what the packets do.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import shutil
import signal
import struct
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from isthmus.runtime.errors import InputError, NetworkError

_TUN = Path("/dev/net/tun")
_TUNSETIFF = 0x400454CA
_IFF_TUN, _IFF_NO_PI = 0x0001, 0x1000
_CLONE_NEWNET = 0x40000000
_PR_SET_PDEATHSIG = 1
# Of the packets that a device gives us: what Ethernet carries.
MTU = 1500


@dataclass(frozen=True, slots=True, kw_only=True)
class TunDevice:
    """A device that is open: its name in the namespace it was made in, and the descriptor of its packets."""

    name: str
    descriptor: int


def check_supported() -> None:
    """Check that devices and namespaces can be made here.

    Raises:
        InputError: If this is no Linux, not root, or a tool or driver is missing; names it.
    """
    if not hasattr(os, "geteuid") or not Path("/proc/self/ns/net").exists():
        raise InputError("link netns: this system has no network namespaces; use 'isthmus link proxy'")
    if os.geteuid() != 0:
        raise InputError("link netns: needs root; run it with sudo, or use 'isthmus link proxy'")
    if not _TUN.exists():
        raise InputError(f"link netns: no {_TUN}; load the kernel's module with 'modprobe tun'")
    if shutil.which("ip") is None:
        raise InputError("link netns: no 'ip' tool; install iproute2")


def enter_new_namespace() -> None:
    """Move the calling thread, and what it starts, into a network namespace of its own.

    Raises:
        NetworkError: If the kernel refuses.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWNET) != 0:
        cause = os.strerror(ctypes.get_errno())
        raise NetworkError(f"network namespace: {cause}; a container needs --privileged for this")


def open_tun(pattern: str) -> TunDevice:
    """Make a device in the calling thread's namespace, named after `pattern` with its %d a free number.

    Raises:
        NetworkError: If the kernel refuses.
    """
    descriptor = os.open(_TUN, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        request = struct.pack("16sH22x", pattern.encode(), _IFF_TUN | _IFF_NO_PI)
        answer = fcntl.ioctl(descriptor, _TUNSETIFF, request)
    except OSError as error:
        os.close(descriptor)
        raise NetworkError(f"{_TUN}: {error.strerror}; a container needs --cap-add NET_ADMIN") from None
    return TunDevice(name=answer[:16].rstrip(b"\0").decode(), descriptor=descriptor)


def configure(device: TunDevice, *, address: str, peer: str) -> None:
    """Give `device` its address, and the one of the other end, in the calling thread's namespace.

    Raises:
        NetworkError: If `ip` refuses.
    """
    for arguments in (
        ("link", "set", "lo", "up"),
        ("addr", "add", address, "peer", peer, "dev", device.name),
        ("link", "set", device.name, "mtu", str(MTU), "up"),
    ):
        done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            said = " ".join(done.stderr.split()) or f"exit code {done.returncode}"
            raise NetworkError(f"ip {' '.join(arguments)}: {said}; is another link using this address?")


def dying_with_parent(command: Sequence[str]) -> list[str]:
    """Return `command` so that the kernel sends it SIGTERM when the thread that started it ends.

    By a process that becomes the command: code between fork and exec may hang in a process with threads.

    Raises:
        InputError: If there is no such program.
    """
    if shutil.which(command[0]) is None:
        raise InputError(f"{command[0]}: no such program; give one that can be run here")
    # The kernel tells only of ends that come later; a parent that was killed before shows in getppid.
    script = (
        f"import ctypes, os, sys; ctypes.CDLL(None).prctl({_PR_SET_PDEATHSIG}, {signal.SIGTERM:d}); "
        f"os.getppid() == {os.getpid()} or sys.exit(1); "
        "os.execvp(sys.argv[1], sys.argv[1:])"
    )
    return [sys.executable, "-I", "-S", "-c", script, *command]
