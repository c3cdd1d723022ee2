"""Derive the machine profiles that ship with Isthmus from published measurements of layers.

Run it as `python scripts/reference_machines.py`, where the data set is (ISTHMUS_DATA or ../shared/data); a
test derives them again and compares. The source is the table of Scission (Lockhart et al., UCC 2020): seconds
of ranges of layers of Keras networks. A row's time is modelled as

    seconds = call + sum over its layers of (overhead + flops / rate + bytes / rate), by class of operator

and all terms are fitted at once, none below 0, by least squares of the relative error. Two machines of the
table are left out: the clock of `edge-vm2Core` reads 0 for most short layers, and on the GPU nearly all the
time is TensorFlow's call per layer, which says nothing of another framework on it.
"""

from __future__ import annotations

import csv
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from isthmus.runtime.machines import MachineProfile, Operator, OperatorSpeed, write_machine

sys.path.insert(0, str(Path(__file__).parent))
from keras_layers import NETWORKS, Layer  # files beside this one
from machine_facts import CITED, POWER, RADIO

ROOT = Path(__file__).resolve().parent.parent
TABLE = Path("latency/scission/scission_layers.csv")
FITTED = ("vgg16", "mobilenet", "mobilenetv2", "resnet50", "densenet121")
HELD_OUT = ("vgg19", "resnet101", "resnet152", "densenet169", "densenet201")
OPERATORS: tuple[Operator, ...] = get_args(Operator)
# A term that makes up less of the fitted time than this cannot be told from none.
_LEAST_SHARE = 0.005
# Bytes of the rows' sizes beyond the tensor's own: the table counts the pickled array.
_PICKLED_BYTES = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """A machine of the table: the name of its profile, and what the table calls it."""

    name: str
    label: str
    processor: str


MACHINES = (
    Machine(name="pi4", label="device-raspi4", processor="Raspberry Pi 4"),
    Machine(name="edge-2500", label="edge-2500", processor="'edge-2500' (its label in the table)"),
    Machine(name="cloud-6700k", label="cloud-6700k(NoGPU)", processor="'6700k', GPU not used (label)"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A measured range of layers of one network on one machine."""

    machine: str
    model: str
    layers: tuple[Layer, ...]
    seconds: float


def data_folder() -> Path:
    """Return where the data sets are."""
    return Path(os.environ.get("ISTHMUS_DATA") or ROOT.parent / "shared" / "data")


def read_rows(file: Path) -> list[Row]:
    """Return the rows of the networks whose layers are known; a row that the clock read as 0 is left out.

    Raises:
        ValueError: If a range of layers does not end in a tensor of the size that the table gives.
    """
    layers = {name: make() for name, make in NETWORKS.items()}
    rows = []
    with file.open(newline="") as lines:
        for line in csv.DictReader(lines):
            known = layers.get(line["model"])
            if known is None or float(line["seconds"]) <= 0:
                continue
            first, last = int(line["input_layer"]), int(line["output_layer"])
            if known[last].output_bytes + _PICKLED_BYTES != int(line["output_size_bytes_as_given"]):
                raise ValueError(f"{file}: layer {last} of {line['model']} is not the one of the table")
            rows.append(
                Row(
                    machine=line["device"],
                    model=line["model"],
                    layers=tuple(known[first : last + 1]),
                    seconds=float(line["seconds"]),
                )
            )
    return rows


def derive() -> dict[str, MachineProfile]:
    """Return the profile of every machine of the table, by name."""
    rows = read_rows(data_folder() / TABLE)
    return {
        machine.name: _profile(machine, [row for row in rows if row.machine == machine.label])
        for machine in MACHINES
    }


def _profile(machine: Machine, rows: Sequence[Row]) -> MachineProfile:
    fitted = [row for row in rows if row.model in FITTED]
    terms = _fit(fitted)
    held_out = [row for row in rows if row.model in HELD_OUT]
    rows_error = _percentiles([abs(_predict(terms, row) / row.seconds - 1) for row in held_out])
    whole = {name: _whole_ratio(terms, held_out, name) for name in HELD_OUT}
    fit = f"fitted to {len(fitted)} rows of {', '.join(FITTED)}"
    sums = ", ".join(f"{name} {ratio:.2f}" for name, ratio in whole.items())
    return MachineProfile(
        name=machine.name,
        origin=(
            "Derived from the per-layer table of Scission (Lockhart et al., UCC 2020), which times Keras "
            f"layers at 224x224: {fit} (non-negative least squares of the relative error; "
            f"{terms[0] * 1e3:.2f} ms of every timed call are set aside). On {len(held_out)} rows of other "
            f"networks the relative error is {rows_error[0]:.0%} (median), {rows_error[1]:.0%} (90th "
            f"percentile); predicted over measured sums: {sums}. TensorFlow's speeds, not ONNX Runtime's: "
            "profile a machine of your own where you have one."
        ),
        source="scaled",
        processor=machine.processor,
        provider="Keras",
        backend="TensorFlow (version not stated)",
        threads=None,
        power=POWER.get(machine.name),
        operators=_speeds(terms, fitted, fit),
        radio=RADIO.get(machine.name),
        cited=CITED.get(machine.name, {}),
    )


def _fit(rows: Sequence[Row]) -> NDArray[np.float64]:
    """Return seconds: of a call, then for each class of a layer, of an operation, and of a byte."""
    work = np.array([_work(row.layers) for row in rows])
    seconds = np.array([row.seconds for row in rows])
    scale = np.maximum(work.max(axis=0), 1.0)
    weighted = work / scale / seconds[:, None]
    open_terms = np.ones(work.shape[1], bool)
    while True:
        terms = np.zeros(work.shape[1])
        terms[open_terms] = nnls(weighted[:, open_terms], np.ones(len(rows)))[0]
        shares = (weighted * terms).sum(axis=0) / len(rows)
        needless = open_terms & (shares < _LEAST_SHARE * _class_shares(shares))
        if not needless.any():
            return terms / scale
        open_terms &= ~needless


def _class_shares(shares: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return, for each term, the share of its class; the call is a class of its own."""
    by_class = shares[1:].reshape(len(OPERATORS), 3).sum(axis=1)
    return np.concatenate([shares[:1], np.repeat(by_class, 3)])


def _work(layers: Sequence[Layer]) -> list[float]:
    """Return 1 for the call, then for each class how many layers, operations and bytes."""
    work = [1.0] + [0.0] * (3 * len(OPERATORS))
    for layer in layers:
        if layer.operator is not None:
            place = 1 + 3 * OPERATORS.index(layer.operator)
            for offset, amount in enumerate((1, layer.flops, layer.nbytes)):
                work[place + offset] += amount
    return work


def _predict(terms: NDArray[np.float64], row: Row) -> float:
    return float(np.dot(terms, _work(row.layers)))


def _whole_ratio(terms: NDArray[np.float64], rows: Sequence[Row], model: str) -> float:
    mine = [row for row in rows if row.model == model]
    return sum(_predict(terms, row) for row in mine) / sum(row.seconds for row in mine)


def _percentiles(values: Sequence[float]) -> tuple[float, float]:
    middle, high = np.percentile(values, [50, 90])
    return float(middle), float(high)


def _speeds(terms: NDArray[np.float64], rows: Sequence[Row], fit: str) -> tuple[OperatorSpeed, ...]:
    speeds = []
    for index, operator in enumerate(OPERATORS):
        overhead_s, flop_s, byte_s = terms[1 + 3 * index : 4 + 3 * index]
        alone = [
            row for row in rows if [layer.operator for layer in row.layers if layer.operator] == [operator]
        ]
        errors = _percentiles([abs(_predict(terms, row) / row.seconds - 1) for row in alone])
        speeds.append(
            OperatorSpeed(
                operator=operator,
                flops_per_s=_rounded(1 / flop_s) if flop_s else None,
                bytes_per_s=_rounded(1 / byte_s) if byte_s else None,
                overhead_s=_rounded(overhead_s),
                source="scaled",
                origin=f"{fit}; {len(alone)} rows hold one such layer alone, error {errors[0]:.0%} (median)",
            )
        )
    return tuple(speeds)


def _rounded(value: float) -> float:
    """Return `value` to four digits: more would only tell apart the libraries that fitted it."""
    return float(f"{value:.4g}")


def main(write: Callable[[Path, MachineProfile], None] = write_machine) -> None:
    """Write the profile of every machine into the package."""
    profiles: Mapping[str, MachineProfile] = derive()
    for name, profile in profiles.items():
        file = ROOT / "runtime" / "machines" / "reference" / f"{name}.json"
        write(file, profile)
        print(f"{file}: {profile.origin}")


if __name__ == "__main__":
    main()
