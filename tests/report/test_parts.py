"""A log read in parts, by several processes, gives the figures of one that was read at once."""

import msgspec
import numpy as np
import pytest

from isthmus.report import load, load_runs, parts, summarise, survey


@pytest.fixture
def small_parts(monkeypatch):
    """Treat the made-up run as one that is long: many blocks, many parts, frames not kept one by one."""
    monkeypatch.setattr(parts, "_WORTH_A_PROCESS_BYTES", 1)
    monkeypatch.setattr(parts, "BLOCK_BYTES", 8192)
    monkeypatch.setattr(survey, "BLOCK_BYTES", 8192)


class _SameProcess:
    """Stands for a pool, so that the test can change what its processes would import anew."""

    def __init__(self, jobs, *, initializer, initargs, **_):
        self.jobs = jobs
        initializer(*initargs)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None

    map = staticmethod(map)


def figures(log):
    built = msgspec.to_builtins(summarise(log))
    return {name: value for name, value in built.items() if name != "reasons"}, {
        use["reason"]: use["frames"] for use in built["reasons"]
    }


def same(one, other):
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[name], other[name]) for name in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return one == pytest.approx(other) if isinstance(one, float) else one == other


def test_parts_add_up_to_the_whole(synthetic_run, small_parts, monkeypatch):
    monkeypatch.setattr(parts, "ProcessPoolExecutor", _SameProcess)
    (whole,) = load_runs([synthetic_run.folder], jobs=1)
    (divided,) = load_runs([synthetic_run.folder], jobs=3)
    assert same(figures(divided), figures(whole))
    assert np.array_equal(divided.kept.frame, whole.kept.frame)
    assert divided.tally.moments.counts.sum() == 1200


def test_real_processes_take_part(synthetic_run, monkeypatch):
    monkeypatch.setattr(parts, "_WORTH_A_PROCESS_BYTES", 1)
    monkeypatch.setattr(survey, "BLOCK_BYTES", 65536)
    seen = []
    (divided,) = load_runs([synthetic_run.folder], jobs=2, watch=lambda what, share: seen.append(share))
    (whole,) = load_runs([synthetic_run.folder])
    assert same(figures(divided), figures(whole))
    assert seen[-1] == pytest.approx(1.0)


def test_of_a_long_run_some_stretches_are_kept(synthetic_run, monkeypatch):
    (short,) = load_runs([synthetic_run.folder])
    monkeypatch.setattr(load, "KEPT_FRAMES", 100)
    monkeypatch.setattr(load, "_WINDOW_FRAMES", 20)
    (log,) = load_runs([synthetic_run.folder])
    assert not log.complete
    assert short.complete
    assert len(log.windows_s) == 8
    assert 120 <= len(log.kept) <= 200
    for begin_s, end_s in log.windows_s:
        inside = (log.kept.captured_s >= begin_s) & (log.kept.captured_s < end_s)
        assert inside.any()
    summary, whole = summarise(log), summarise(short)
    assert summary.accounting == whole.accounting
    assert summary.latency == whole.latency
    assert summary.regret is not None
    assert whole.regret is not None
    assert (summary.regret.windows, summary.regret.frames) == (8, len(log.kept))
    assert summary.regret.regret == pytest.approx(whole.regret.regret, abs=0.05)
