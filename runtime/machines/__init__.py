"""Machine profiles: what a device or a server was measured, or published, to cost."""

from __future__ import annotations

from isthmus.runtime.machines.files import (
    ALIASES,
    decode_machine,
    load_machine,
    reference_machines,
    write_machine,
)
from isthmus.runtime.machines.profile import (
    MACHINE_SCHEMA_VERSION,
    Anchor,
    Cited,
    MachineProfile,
    NetworkCosts,
    Operator,
    OperatorSpeed,
    OperatorWork,
    Power,
)
from isthmus.runtime.machines.radio import RadioModel, Source

__all__ = [
    "ALIASES",
    "MACHINE_SCHEMA_VERSION",
    "Anchor",
    "Cited",
    "MachineProfile",
    "NetworkCosts",
    "Operator",
    "OperatorSpeed",
    "OperatorWork",
    "Power",
    "RadioModel",
    "Source",
    "decode_machine",
    "load_machine",
    "reference_machines",
    "write_machine",
]
