"""Play scenarios side by side: most of what they do is wait."""

from __future__ import annotations

import multiprocessing
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor, wait
from pathlib import Path
from types import TracebackType

from _faults.bundles import make_properties
from _faults.scenario import Scenario, play
from _faults.verdict import LEAST_BEFORE, TARGET, Verdict


class Company:
    """A context in which scenarios are played, `jobs` at a time, those that last longest first.

    Args:
        scenarios: What is played; begins when the context is entered.
        jobs: How many at a time. Those that take the whole machine are played when all others are over.
        encores: How often one that missed its target, or had little to lose, is played again, alone: on a
            busy machine a frame may be late for want of a processor. One whose account of frames is broken is
            not.
        play: Plays one; a test gives its own.
    """

    def __init__(
        self,
        scenarios: Sequence[Scenario],
        *,
        jobs: int,
        encores: int = 0,
        play: Callable[..., Verdict] = play,
    ) -> None:
        self._scenarios, self._encores, self._play = scenarios, encores, play
        self._threads = ThreadPoolExecutor(jobs)
        # The virtual ones compute without a pause: in this process they would hold up the threads that carry
        # packets and answer as servers.
        self._aside = ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"))
        self._futures: dict[str, Future[Verdict]] = {}

    def __enter__(self) -> Company:
        self._folder = tempfile.TemporaryDirectory()
        self._properties = make_properties(Path(self._folder.name))
        # Those that wait for a recovery last longest.
        for scenario in sorted(self._scenarios, key=lambda one: not one.returns):
            where: Executor = self._aside if scenario.backend == "virtual" else self._threads
            if not scenario.greedy:
                self._futures[scenario.title] = where.submit(self._play, scenario, self._properties)
        return self

    def __exit__(
        self,
        _type: type[BaseException] | None,
        _value: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        self._aside.shutdown(wait=True, cancel_futures=True)
        self._threads.shutdown(wait=True, cancel_futures=True)
        self._folder.cleanup()

    def verdict(self, scenario: Scenario) -> Verdict:
        """Return what `scenario` showed, once it is over.

        Raises:
            AssertionError: If it did not come to what it is about.
        """
        if scenario.title not in self._futures:
            return self._alone(scenario)
        verdict = self._futures[scenario.title].result()
        for _ in range(self._encores):
            if not verdict.conserved or not scenario.returns or _has_its_utility_back(verdict):
                break
            verdict = self._alone(scenario)
        return verdict

    def _alone(self, scenario: Scenario) -> Verdict:
        wait(self._futures.values())
        return self._play(scenario, self._properties)


def _has_its_utility_back(verdict: Verdict) -> bool:
    return (verdict.before or 0.0) > LEAST_BEFORE and (verdict.ratio or 0.0) >= TARGET
