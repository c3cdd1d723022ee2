import time
from pathlib import Path

import numpy as np
import onnx
import pytest

from isthmus.partitioner.facts import TensorFact
from isthmus.partitioner.running.execution import (
    Clock,
    clock_for,
    open_session,
    random_feed,
    run,
    session_options,
    summarise,
    time_side_by_side,
)
from isthmus.runtime.errors import InputError


def test_summary_is_median_and_interquartile_range() -> None:
    timing = summarise([1.0, 2.0, 3.0, 4.0, 100.0])
    assert (timing.median_s, timing.spread_s, timing.rounds) == (3.0, 2.0, 5)


def test_contenders_take_turns_and_the_busy_half_is_set_aside() -> None:
    """On a clock of our own a call of `a` takes 1 s and of `b` 2 s, after 30 s ten times that."""
    now, calls = [0.0], []

    def call(name: str, seconds: float) -> None:
        calls.append(name)
        now[0] += seconds * (10 if now[0] > 30 else 1)

    clock = Clock(name="wall", now_s=lambda: now[0])
    contenders = {"a": lambda: call("a", 1.0), "b": lambda: call("b", 2.0)}
    timings = time_side_by_side(contenders, budget_s=1.0, clock=clock)
    assert timings["a"].median_s == 1.0
    assert timings["b"].median_s == 2.0
    assert timings["a"].rounds == 5
    assert calls[6:] == ["a", "b", "b", "a"] * 4 + ["a", "b"]


def test_one_thread_is_timed_by_its_own_cpu_time() -> None:
    clock = clock_for(1, 1)
    assert (clock.name, clock.now_s) == ("cpu", time.thread_time)
    assert (clock_for(1, 2).name, clock_for(2).now_s) == ("wall", time.perf_counter)


def test_random_values_fit_their_types() -> None:
    inputs = [
        TensorFact(name="pixels", dtype="uint8", shape=(1, 8, 8, 3), nbytes=192),
        TensorFact(name="floats", dtype="float32", shape=(1, 500), nbytes=2000),
        TensorFact(name="tokens", dtype="int64", shape=(1, 50), nbytes=400),
        TensorFact(name="mask", dtype="bool", shape=(1, 50), nbytes=50),
    ]
    feed = random_feed(inputs, np.random.default_rng(0), batch=2)
    assert {name: (value.dtype.name, value.shape) for name, value in feed.items()} == {
        "pixels": ("uint8", (2, 8, 8, 3)),
        "floats": ("float32", (2, 500)),
        "tokens": ("int64", (2, 50)),
        "mask": ("bool", (2, 50)),
    }
    assert feed["pixels"].max() > 200
    assert set(np.unique(feed["tokens"])) == {0, 1}
    assert not np.array_equal(feed["floats"][0], feed["floats"][1])


def test_what_onnx_runtime_refuses_is_one_line(residual_file: Path) -> None:
    model = onnx.load(residual_file)
    session = open_session(model, "m.onnx", session_options(1))
    assert set(run(session, {"image": np.zeros((2, 3, 8, 8), np.float32)}, "m.onnx")) == {"logits"}
    model.ir_version = 99
    with pytest.raises(InputError, match=r"^m\.onnx: ONNX Runtime cannot load it: .*$"):
        open_session(model, "m.onnx", session_options(1))
