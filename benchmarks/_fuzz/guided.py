"""Payloads that coverage guides: Atheris keeps what reaches code that nothing before it has reached.

It sees the Python code, the numpy coder included, not the C coder. Memory is not judged here: what was kept
grows with it.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from random import Random
from typing import Any

_BENCHMARKS = Path(__file__).resolve().parents[1]
_PATIENCE_S = 120.0
_INSTRUMENTED = "isthmus.runtime.codecs"
_LONGEST = 4096
_REPORT_EVERY = 500


def has_guide() -> bool:
    """Say whether Atheris is installed."""
    return importlib.util.find_spec("atheris") is not None


def guide(folder: Path, *, payloads: int, seconds: float, seed: int) -> dict[str, Any]:
    """Return figures of about `payloads` inputs within `seconds`; `folder` is for its files."""
    report = folder / "guided.json"
    path = os.pathsep.join([str(_BENCHMARKS), str(_BENCHMARKS.parent), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [
            *(sys.executable, "-m", "_fuzz.guided", str(report)),
            *(f"-runs={payloads}", f"-max_total_time={round(seconds)}", f"-seed={seed}"),
            *(f"-max_len={_LONGEST}", "-timeout=20", "-verbosity=1", f"-artifact_prefix={folder}/"),
        ],
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path.rstrip(os.pathsep)},
        capture_output=True,
        text=True,
        timeout=seconds + _PATIENCE_S,
        check=False,
    )
    if done.returncode != 0 or not report.exists():
        return {"violations": [f"crashed ({done.returncode}): {done.stderr[-3000:]}"]}
    found: dict[str, Any] = json.loads(report.read_text())
    covered = [line for line in done.stderr.splitlines() if "cov: " in line]
    if covered:
        found["covered_edges"] = int(covered[-1].split("cov: ")[1].split()[0])
    return found | {"seed": seed}


def main() -> None:
    """Read payloads until libFuzzer, which the other arguments are for, has enough."""
    import atheris

    with atheris.instrument_imports(include=[_INSTRUMENTED]):
        from _fuzz.mutation import Mutator
        from _fuzz.payload_check import PayloadVerdicts
        from _fuzz.payload_inputs import PayloadInput, PayloadInputs, seal, sources

    runs = next(int(argument[len("-runs=") :]) for argument in sys.argv if argument.startswith("-runs="))
    report, verdicts, inputs = Path(sys.argv.pop(1)), PayloadVerdicts(), PayloadInputs(1)
    pool = [payload for source in sources() for payload in source.payloads]
    tables = [source.tables for source in sources()]

    def read(data: bytes) -> None:
        # The first byte chooses the tables.
        which = tables[data[0] % len(tables)] if data else tables[0]
        verdicts.judge(PayloadInput("guided", which, data[1:]), inputs.shape, both=True)
        done = sum(verdicts.outcomes.values())
        if done % _REPORT_EVERY == 0 or done >= runs:  # libFuzzer ends the process by itself
            report.write_text(json.dumps({"payloads": done, **verdicts.record()}))

    def mutate(data: bytes, longest: int, seed: int) -> bytes:
        random = Random(seed)
        chosen = data[:1] or b"\0"
        payload = data[1:] if len(data) > 16 and random.random() < 0.9 else random.choice(pool)
        if random.random() < 0.5:
            altered = bytes(atheris.Mutate(payload[:-4], longest))
        else:
            altered = Mutator(random, pool).mutate(payload[:-4])
        if random.random() < 0.9:
            altered = seal(altered, tables[chosen[0] % len(tables)])
        return (chosen + altered)[:longest]

    atheris.Setup(sys.argv, read, custom_mutator=mutate)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
