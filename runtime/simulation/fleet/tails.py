"""The state of all tails of a part, and the way into and out of the function that serves them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isthmus.runtime.simulation.fleet.captures import Devices, Floats
from isthmus.runtime.simulation.fleet.tail import ARRIVAL, compiled, serve
from isthmus.runtime.simulation.fleet.world import Service

_NOISES = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """What left the tails in a slice.

    Attributes:
        latency_s, counted, device: Of the frames served: seconds from capture to answer, whether they count.
        refused_device, refused_s: Whose frames were refused, and when.
    """

    latency_s: Floats
    counted: NDArray[np.bool_]
    device: Devices
    refused_device: Devices
    refused_s: Floats


class Tails:
    """A number of tails; devices are dealt out evenly over those that take frames.

    Attributes:
        servers: Rows of seconds: free from, computed so far.
        counts: Frames served, expired and refused, and batches.
    """

    def __init__(self, service: Service, *, servers: int, rng: np.random.Generator) -> None:
        # Room to append without moving what waits more than once per queue's length.
        room = 2 * service.queue_frames + service.max_batch
        self._rules = (
            service.frame_s,
            service.batch_s,
            service.max_batch,
            service.queue_frames,
            service.admission == "predicted",
        )
        noise = np.ones(1)
        if service.factors:
            noise = rng.choice(np.array(service.factors), _NOISES)
        elif service.sigma > 0:
            noise = np.exp(rng.normal(-(service.sigma**2) / 2, service.sigma, _NOISES))
        self._serve = compiled()
        self._noise = self._rows(noise)
        self.servers = self._rows(np.zeros((2, servers)))
        self._places = self._rows(np.zeros((2, servers), np.int64))
        self._waiting = self._rows(np.zeros((servers, 3, room)))
        self._waiting_device = self._rows(np.zeros((servers, room), np.int32))
        self.counts = self._rows(np.zeros(4, np.int64))

    def _rows(self, array: NDArray[Any]) -> Any:
        """Return `array` as `serve` reads it quickest: compiled from arrays, else from lists."""
        return array if self._serve is not None else array.tolist()

    @property
    def waiting_frames(self) -> int:
        """Frames that wait."""
        return int(np.sum(self._places[1])) - int(np.sum(self._places[0]))

    def serve(self, until_s: float, frames: Floats, device: Devices, *, servers: int) -> Answers:
        """Serve `frames` (rows as `tail.serve` takes them, in any order), which arrive before `until_s`.

        Args:
            until_s: The end of the slice.
            frames: float64 [4, n].
            device: int32 [n].
            servers: How many tails take frames; those beyond only finish what they have.
        """
        every = len(self.servers[0])
        by_time = np.argsort(frames[ARRIVAL])
        server = (device[by_time] % servers).astype(np.uint16 if servers < 1 << 16 else np.uint32)
        # A stable sort of small integers is a radix sort.
        order = by_time[np.argsort(server, kind="stable")]
        frames, device = frames[:, order], device[order]
        bounds = np.zeros(every + 1, np.int64)
        np.cumsum(np.bincount(server, minlength=every), out=bounds[1:])
        most = len(device) + self.waiting_frames
        done, done_device = np.empty((2, most)), np.empty(most, np.int32)
        refused = np.empty(len(device), np.int64)
        if self._serve is not None:
            served, refusals = self._call(
                self._serve, until_s, bounds, frames, device, done, done_device, refused
            )
        else:
            lists = [array.tolist() for array in (bounds, frames, device, done, done_device, refused)]
            served, refusals = self._call(serve, until_s, *lists)
            done, done_device = np.array(lists[3]).reshape(2, most), np.array(lists[4], np.int32)
            refused = np.array(lists[5], np.int64)
        gone = refused[:refusals]
        return Answers(
            latency_s=done[0, :served],
            counted=done[1, :served] > 0,
            device=done_device[:served],
            refused_device=device[gone],
            refused_s=frames[ARRIVAL, gone],
        )

    def _call(
        self,
        function: Any,
        until_s: float,
        bounds: Any,
        frames: Any,
        device: Any,
        done: Any,
        done_device: Any,
        refused: Any,
    ) -> tuple[int, int]:
        served, refusals = function(
            until_s,
            bounds,
            frames,
            device,
            self.servers,
            self._places,
            self._waiting,
            self._waiting_device,
            self._rules,
            self._noise,
            self.counts,
            done,
            done_device,
            refused,
        )
        return int(served), int(refusals)
