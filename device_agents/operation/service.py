"""The agent as a systemd service: the text of its unit, and the check of it.

Decides what the service may do. It can read everything the system lets its user read, and write its own
state directory and the folders of the files it was told to write; it cannot gain privileges. Two hardenings
are left out on purpose: `MemoryDenyWriteExecute` (ONNX Runtime's providers generate code) and
`PrivateDevices` (cameras and accelerators are devices).
"""

from __future__ import annotations

import shutil
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

from isthmus.device_agents.config import AgentConfig
from isthmus.runtime.errors import InputError

DEFAULT_NAME = "isthmus-agent"
# `isthmus agent status` looks here when it is told nothing.
DEFAULT_STATUS = Path("/run") / DEFAULT_NAME / "status.json"
_VERIFY_TIMEOUT_S = 30.0

_UNIT = """\
# Written by 'isthmus agent install-service'; write it again after moving the bundle or the environment.
[Unit]
Description=Isthmus agent for {bundle}
After=network-online.target time-sync.target
Wants=network-online.target

[Service]
Type=notify
NotifyAccess=main
ExecStart={command}
{user}
StateDirectory={name}
RuntimeDirectory={name}
RuntimeDirectoryMode=0755
WorkingDirectory=%S/{name}
Environment=PYTHONUNBUFFERED=1{status}
UMask=0022

# A server that is down is no failure; these exit codes are mistakes that another start does not cure.
Restart=on-failure
RestartSec=2
RestartPreventExitStatus=2 3 4 6
TimeoutStartSec=120
TimeoutStopSec=15
WatchdogSec=45

# Cameras and the Raspberry Pi's firmware belong to the group video, accelerators to render, and serial
# lines, on which an energy meter may be, to dialout.
{groups}
NoNewPrivileges=yes
CapabilityBoundingSet=
ProtectSystem=strict
ProtectHome=read-only
{writable}PrivateTmp=yes
ProtectClock=yes
ProtectHostname=yes
ProtectKernelTunables=yes
ProtectKernelModules=yes
ProtectKernelLogs=yes
ProtectControlGroups=yes
ProtectProc=invisible
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
RestrictNamespaces=yes
RestrictSUIDSGID=yes
LockPersonality=yes
RemoveIPC=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallErrorNumber=EPERM

[Install]
WantedBy=multi-user.target
"""


def unit_text(
    config: AgentConfig, file: Path, *, name: str, user: str | None = None, groups: tuple[str, ...] = ()
) -> str:
    """Return the unit of a service that runs the agent with the settings in `file`.

    Args:
        config: What those settings are.
        file: The TOML file, absolute.
        name: Of the service and its directories.
        user: Runs as this user; None: as one that systemd makes up for it.
        groups: Further groups of that user, which must exist.

    Raises:
        InputError: If a path in the settings is relative, there is no bundle, or a name is no unit's.
    """
    if not name.replace("-", "").replace("_", "").isalnum():
        raise InputError(f"--name {name!r}: give letters, digits, - and _")
    if config.bundle is None:
        raise InputError(f'{file}: has no bundle; add bundle = "/path/to/bundle"')
    written = {"events": config.events, "results": _results_file(config), "status": config.status}
    for setting, path in {"bundle": config.bundle, **written}.items():
        if path is not None and not path.is_absolute():
            raise InputError(
                f"{file}: {setting} {str(path)!r} is relative, and a service starts elsewhere; "
                "give the whole path"
            )
    folders = sorted({str(path.parent) for path in written.values() if path is not None})
    command = [sys.executable, "-m", "isthmus", "agent", "run", "--config", str(file), "--quiet"]
    return _UNIT.format(
        bundle=_escaped(config.bundle.name),
        command=" ".join(_quoted(word) for word in command),
        user=f"User={user}" if user else "DynamicUser=yes",
        name=name,
        # %t is where the runtime directory is.
        status="" if config.status else f"\nEnvironment=ISTHMUS_AGENT_STATUS=%t/{name}/status.json",
        groups=f"SupplementaryGroups={' '.join(groups)}" if groups else "# (none of them exists here)",
        writable=f"ReadWritePaths={' '.join(_quoted(folder) for folder in folders)}\n" if folders else "",
    )


def present_groups(wanted: tuple[str, ...] = ("video", "render", "gpio", "dialout")) -> tuple[str, ...]:
    """Return those of `wanted` that this system has: a unit that names another does not start."""
    import grp

    known = {group.gr_name for group in grp.getgrall()}
    return tuple(name for name in wanted if name in known)


def unreadable(config: AgentConfig, file: Path) -> tuple[str, ...]:
    """Return what a service with a user and a /tmp of its own could not read, each in one line."""
    told = []
    for path in (Path(sys.executable), file, config.bundle or file):
        for place in dict.fromkeys((path, path.resolve())):
            closed = next((step for step in (place, *place.parents) if not _is_open(step)), None)
            if place.is_relative_to("/tmp"):
                told.append(f"{place}: a service has a /tmp of its own; move it elsewhere")
            elif closed is not None:
                told.append(f"{place}: {closed} is not open to other users; chmod o+rX it, or give --user")
    return tuple(dict.fromkeys(told))


def verify_unit(text: str, name: str) -> tuple[str, ...] | None:
    """Return what `systemd-analyze verify` has to say against a unit; None if there is no such tool."""
    tool = shutil.which("systemd-analyze")
    if tool is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / f"{name}.service"
        file.write_text(text, encoding="utf-8")
        try:
            done = subprocess.run(
                [tool, "verify", "--man=no", str(file)],
                capture_output=True,
                text=True,
                check=False,
                timeout=_VERIFY_TIMEOUT_S,
            )
        except (OSError, subprocess.SubprocessError) as error:
            return (f"systemd-analyze: {error}",)
        # It also complains of other units of this system; those are not ours to mend.
        return tuple(line for line in done.stderr.splitlines() if name in line)


def _is_open(path: Path) -> bool:
    needed = stat.S_IXOTH if path.is_dir() else stat.S_IROTH
    return not path.exists() or bool(path.stat().st_mode & needed)


def _results_file(config: AgentConfig) -> Path | None:
    results = config.results
    return None if results is None or results == "-" or "://" in results else Path(results).expanduser()


def _quoted(word: str) -> str:
    return (
        _escaped(word)
        if word.replace("/", "").replace("-", "").replace(".", "").replace("_", "").isalnum()
        else ('"' + _escaped(word).replace("\\", "\\\\").replace('"', '\\"') + '"')
    )


def _escaped(text: str) -> str:
    # systemd expands % (specifiers) and, in commands, $ (variables).
    return text.replace("%", "%%").replace("$", "$$")
