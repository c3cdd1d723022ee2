"""Run ONNX graphs on this machine and time them side by side.

Decides how a time is taken: warm sessions, contenders interleaved in rounds of changing order, medians with
their interquartile range. Knows nothing of cuts.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from onnx import ModelProto

from isthmus.partitioner.facts import TensorFact
from isthmus.partitioner.network.weights import is_external
from isthmus.partitioner.running.providers import CPU
from isthmus.runtime.errors import InputError

Feed = dict[str, NDArray[Any]]

_WEIGHTS_FOLDER = "session.model_external_initializers_file_folder_path"
# One sample of a contender lasts at least this long, or the clock and the call would be measured as well.
_SAMPLE_S = 0.002
_MIN_ROUNDS, _MAX_ROUNDS = 9, 200
# On a busy machine CPU time passes slowly; nobody waits for more than this many times the budget.
_PATIENCE = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Clock:
    """A clock for durations: `cpu` counts only while the calling thread runs, `wall` always."""

    name: Literal["cpu", "wall"]
    now_s: Callable[[], float]


def clock_for(*threads: int) -> Clock:
    """Return the clock to time inferences with that run on so many threads each.

    One thread's inference runs in the thread that asks for it. The CPU time of that thread is what it takes
    when nobody interrupts it, however busy the machine is with others; with more threads only the wall can
    tell.
    """
    exact = time.get_clock_info("thread_time").resolution <= 1e-6
    if exact and all(count == 1 for count in threads):
        return Clock(name="cpu", now_s=time.thread_time)
    return Clock(name="wall", now_s=time.perf_counter)


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """Seconds of one call: median and interquartile range over `rounds` samples."""

    median_s: float
    spread_s: float
    rounds: int


def session_options(threads: int) -> onnxruntime.SessionOptions:
    """Return options for one sequential inference on `threads` threads that do not spin, fully optimised."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    # Spinning threads look fast here and starve the process that shares the device.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options


def open_session(
    model: ModelProto,
    name: str,
    options: onnxruntime.SessionOptions,
    *,
    folder: Path | None = None,
    providers: tuple[str, ...] = CPU,
) -> onnxruntime.InferenceSession:
    """Return a session of `model`, called `name` in errors.

    Args:
        model: The model; external weights are references, which ONNX Runtime follows itself.
        name: What to call it.
        options: How to run it.
        folder: Where external weights are; only a model without any needs none.
        providers: What to run it on, the one that counts first.

    Raises:
        InputError: If ONNX Runtime refuses the model, or falls back to another provider.
    """
    if folder is not None and any(is_external(tensor) for tensor in model.graph.initializer):
        _look_in(options, folder)
    try:
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=list(providers))
    except Exception as error:  # its errors share no base class but this one
        raise InputError(f"{name}: ONNX Runtime cannot load it: {_reason(error)}") from None
    # Where a provider's own libraries are missing it only warns, and computes on the processor.
    if session.get_providers()[0] != providers[0]:
        raise InputError(
            f"{name}: {providers[0]} does not start here, ONNX Runtime would use "
            f"{session.get_providers()[0]}; install what it needs, or choose cpu"
        )
    return session


def _look_in(options: onnxruntime.SessionOptions, folder: Path) -> None:
    """Let sessions with `options` find external weights in `folder`."""
    place = str(folder.resolve())
    try:
        known = options.get_session_config_entry(_WEIGHTS_FOLDER)
    except RuntimeError:  # its way to say that it has none
        known = None
    if known != place:
        options.add_session_config_entry(_WEIGHTS_FOLDER, place)


def run(session: onnxruntime.InferenceSession, feed: Feed, name: str) -> Feed:
    """Run `session` once on those of the tensors in `feed` that it takes; return its outputs by name.

    Raises:
        InputError: If ONNX Runtime fails on it.
    """
    wanted = {value.name: feed[value.name] for value in session.get_inputs()}
    names = [value.name for value in session.get_outputs()]
    try:
        return dict(zip(names, session.run(names, wanted), strict=True))
    except Exception as error:  # as above
        raise InputError(f"{name}: ONNX Runtime cannot run it: {_reason(error)}") from None


def random_feed(inputs: Sequence[TensorFact], rng: np.random.Generator, *, batch: int | None = None) -> Feed:
    """Return a random value for each input, with `batch` as its first dimension where that is given.

    Pixels for uint8, a standard normal for floats, 0 and 1 for other types (an index that is always in
    range).
    """
    feed: Feed = {}
    for fact in inputs:
        assert fact.shape is not None, "a network's inputs have known shapes"
        shape = fact.shape if batch is None else (batch, *fact.shape[1:])
        kind = np.dtype(fact.dtype)
        if kind == np.uint8:
            feed[fact.name] = rng.integers(0, 256, shape).astype(kind)
        elif np.issubdtype(kind, np.floating):
            feed[fact.name] = np.asarray(rng.standard_normal(shape)).astype(kind)
        else:
            feed[fact.name] = np.asarray(rng.integers(0, 2, shape)).astype(kind)
    return feed


def time_side_by_side(
    calls: Mapping[str, Callable[[], object]], *, budget_s: float, clock: Clock
) -> dict[str, Timing]:
    """Time every call by `clock` in interleaved rounds for about `budget_s` seconds.

    Interleaving gives each contender its share of every disturbance; one after the other, a passing one would
    be charged to whoever ran then. The order rotates, so that nobody always follows the same neighbour's
    cache. The slower half of the rounds is set aside, for all contenders alike: the machine was busy then.
    """
    repeats, pass_s = {}, 0.0
    for name, call in calls.items():
        call()
        call()
        once = max(_duration(call, 1, clock), 1e-9)
        repeats[name] = max(1, round(_SAMPLE_S / once))
        pass_s += once * repeats[name]
    rounds = int(min(max(budget_s / pass_s, _MIN_ROUNDS), _MAX_ROUNDS))
    names = list(calls)
    samples: list[dict[str, float]] = []
    patience_s = time.perf_counter() + _PATIENCE * budget_s
    for index in range(rounds):
        if index >= _MIN_ROUNDS and time.perf_counter() > patience_s:
            break
        shift = index % len(names)
        order = names[shift:] + names[:shift]
        samples.append({name: _duration(calls[name], repeats[name], clock) for name in order})
    quiet = sorted(samples, key=lambda sample: sum(sample[name] * repeats[name] for name in names))
    kept = quiet[: (len(samples) + 1) // 2]
    return {name: summarise([sample[name] for sample in kept]) for name in names}


def summarise(samples: Sequence[float]) -> Timing:
    """Return median and interquartile range of `samples` (seconds)."""
    low, middle, high = np.percentile(samples, [25, 50, 75])
    return Timing(median_s=float(middle), spread_s=float(high - low), rounds=len(samples))


def _duration(call: Callable[[], object], repeats: int, clock: Clock) -> float:
    start = clock.now_s()
    for _ in range(repeats):
        call()
    return (clock.now_s() - start) / repeats


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
