from collections.abc import Callable
from typing import Any

import pytest

from isthmus.runtime.machines import Anchor, MachineProfile, NetworkCosts, OperatorSpeed, OperatorWork, Power


def _profile(**changes: Any) -> MachineProfile:
    costs = NetworkCosts(
        host="a processor",
        backend="a framework",
        clock="cpu",
        threads=2,
        rounds=9,
        whole_s=0.003,
        whole_spread_s=0.0001,
        kernel_sum_s=0.0029,
        node_s={"a": 0.001, "b": 0.002},
        anchors=(Anchor(tensor="a", before=1 / 3, head_extra_s=-0.0001, tail_extra_s=0.0002),),
        work={"a": OperatorWork(operator="conv", flops=1e6, nbytes=400)},
        model="net.onnx",
    )
    fields: dict[str, Any] = {
        "name": "bench",
        "origin": "made up for a test",
        "source": "measured",
        "processor": "a processor",
        "provider": "CPUExecutionProvider",
        "backend": "a framework",
        "threads": 2,
        "power": Power(idle_w=2.0, compute_w=None, transmit_w=0.5, source="published", origin="a page"),
        "operators": (
            OperatorSpeed(
                operator="conv",
                flops_per_s=1e9,
                bytes_per_s=1e8,
                overhead_s=1e-5,
                source="measured",
                origin="one node",
            ),
        ),
        "networks": {"ab" * 32: costs},
    }
    return MachineProfile(**(fields | changes))


@pytest.fixture
def make_profile() -> Callable[..., MachineProfile]:
    """Return `make(**changes)` of a profile with two threads, one class and one network of two nodes."""
    return _profile
