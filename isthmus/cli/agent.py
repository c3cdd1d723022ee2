"""`isthmus agent`: the edge process and the tools of whoever operates it."""

from __future__ import annotations

from isthmus.cli._agent_doctor import bench_link, doctor
from isthmus.cli._agent_run import run
from isthmus.cli._agent_service import install_service, status
from isthmus.cli._agent_set import set_agent
from isthmus.cli._group import verb_group

app = verb_group(
    "run",
    {
        "run": run,
        "status": status,
        "set": set_agent,
        "doctor": doctor,
        "bench-link": bench_link,
        "install-service": install_service,
    },
    "Run a bundle's heads on this device, and look after it. 'agent BUNDLE' means 'agent run BUNDLE'.",
)
