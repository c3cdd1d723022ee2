"""A running average of the weights: what a short training ends with is less noisy than its last step."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class WeightAverage:
    """An exponential moving average of parameters; while it is young it forgets faster."""

    def __init__(self, named: Mapping[str, nn.Parameter], decay: float) -> None:
        """Start from the parameters as they are."""
        self._named, self._decay, self._updates = dict(named), decay, 0
        self._averages = {name: value.detach().clone() for name, value in named.items()}

    @torch.no_grad()
    def update(self) -> None:
        """Take in the parameters after a step."""
        self._updates += 1
        decay = min(self._decay, self._updates / (10.0 + self._updates))
        values = [value.detach() for value in self._named.values()]
        torch._foreach_lerp_(list(self._averages.values()), values, 1.0 - decay)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Put the averages in the parameters' place for a while."""
        kept = {name: value.detach().clone() for name, value in self._named.items()}
        self.apply()
        try:
            yield
        finally:
            self._copy(kept)

    def apply(self) -> None:
        """Put the averages in the parameters' place."""
        self._copy(self._averages)

    def state(self) -> dict[str, object]:
        """Return what a resumed run needs."""
        return {"updates": self._updates, "averages": self._averages}

    def restore(self, state: Mapping[str, object]) -> None:
        """Continue from a `state`."""
        updates, averages = state["updates"], state["averages"]
        assert isinstance(updates, int)
        assert isinstance(averages, dict)
        self._updates = updates
        for name, value in averages.items():
            self._averages[name].copy_(value)

    @torch.no_grad()
    def _copy(self, source: Mapping[str, Tensor]) -> None:
        for name, value in self._named.items():
            value.copy_(source[name])
