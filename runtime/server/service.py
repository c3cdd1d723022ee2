"""The service itself: which models there are, and whether frames are taken. Knows no gRPC.

A model is replaced without losing a frame: the new one is opened and warmed up beside the old one, new frames
go to it, and the old one ends when its last frame is answered. One that cannot be opened replaces nothing.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from isthmus.runtime.bundle import Bundle
from isthmus.runtime.errors import DrainingError, IsthmusError, ServiceError, UnknownModelError
from isthmus.runtime.server.frame_call import Done, FrameCall, outcome_of
from isthmus.runtime.server.model import VERSION, ServedModel
from isthmus.runtime.server.shelf import Shelf
from isthmus.runtime.server.statistics import ModelStatistics
from isthmus.runtime.wire import Answer, AnswerOutcome, FrameRequest

__all__ = ["ModelState", "State", "TailService", "outcome_of"]

log = logging.getLogger("isthmus.server")

State = Literal["starting", "serving", "draining"]
_STARTING = "the server is starting; try again when it is ready"

# Opens a bundle's tail; takes seconds, is called off the event loop.
Opener = Callable[[Bundle], ServedModel]
# Is told when a model begins (True) and ceases to take frames.
Listener = Callable[[str, bool], Awaitable[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelState:
    """One line of the repository's index: a bundle, whether it takes frames, and if not, why."""

    name: str
    ready: bool
    reason: str = ""


class TailService:
    """Answers frames for any number of models.

    Attributes:
        state: "starting" until `open`, then "serving", then "draining" for good.
        outcomes: How many frames ended in each outcome so far.
    """

    def __init__(
        self, shelf: Shelf | None = None, opener: Opener | None = None, listener: Listener | None = None
    ) -> None:
        """Make a service that takes no frames yet.

        Args:
            shelf: Where bundles are found that are to be loaded while serving; None: there are none.
            opener: Makes a model of a bundle.
            listener: Is told which models take frames.
        """
        self.state: State = "starting"
        self.outcomes: Counter[AnswerOutcome] = Counter()
        self._models: dict[str, ServedModel] = {}
        self._shelf = shelf
        self._opener = opener
        self._listener = listener
        self._reasons: dict[str, str] = {}
        self._changing = asyncio.Lock()
        self._retiring: set[asyncio.Task[None]] = set()

    @property
    def models(self) -> Mapping[str, ServedModel]:
        """The served models by name."""
        return self._models

    def open(self, models: Iterable[ServedModel]) -> None:
        """Take frames for `models` from now on."""
        self._models = {model.name: model for model in models}
        self.state = "serving"

    def drain(self) -> None:
        """Take no more frames; those that were accepted are still answered."""
        self.state = "draining"

    async def close(self) -> None:
        """Give up on whatever is not yet computed."""
        self.drain()
        for model in self._models.values():
            await model.close()
        for task in self._retiring:
            task.cancel()

    def is_ready(self, name: str, version: str = "") -> bool:
        """Say whether frames for a model are taken now.

        Raises:
            UnknownModelError: If there is no such model or version.
        """
        if self.state == "starting":
            return False
        self.model(name, version)
        return self.state == "serving"

    def model(self, name: str, version: str = "") -> ServedModel:
        """Return a model.

        Raises:
            DrainingError: If the server is starting: it does not know yet what it will have.
            UnknownModelError: If there is no such model or version.
        """
        found = self._models.get(name)
        if found is None and self.state == "starting":
            raise DrainingError(_STARTING)
        if found is None:
            names = ", ".join(f"'{known}'" for known in self._models)
            raise UnknownModelError(f"unknown model {name!r}; this server has {names or 'none yet'}")
        if version not in ("", VERSION):
            raise UnknownModelError(f"model '{name}' has no version {version!r}, only '{VERSION}'")
        return found

    def output(self, name: str) -> str:
        """Return the name of a model's output; empty if there is no such model."""
        found = self._models.get(name)
        return "" if found is None else found.backend.output

    def statistics(self, name: str) -> ModelStatistics:
        """Return what a model has done since it was loaded.

        Raises:
            UnknownModelError: If it is not loaded.
        """
        return self.model(name).statistics

    def index(self) -> tuple[ModelState, ...]:
        """Return every bundle that is served or could be, by name."""
        names = dict.fromkeys((*self._models, *(self._shelf.names() if self._shelf else ()), *self._reasons))
        ready = self.state == "serving"
        return tuple(
            ModelState(
                name=name,
                ready=ready and name in self._models,
                reason=self._reasons.get(name, "" if name in self._models else "not loaded"),
            )
            for name in names
        )

    async def load(self, name: str) -> None:
        """Load the bundle `name`, as it lies on the disk now, in place of the one served, if any.

        Frames in flight are answered by the model that took them.

        Raises:
            BundleError, GateError: If it cannot be used; what was served before is still served.
            UnknownModelError: If there is no such bundle.
            DrainingError: If the server is stopping.
        """
        async with self._changing:
            await self._replace(name, only_if_changed=False)

    async def reload(self, name: str) -> bool:
        """Load the bundle `name` again if its content has changed; return whether it has.

        Raises:
            BundleError, GateError, UnknownModelError, DrainingError: As `load`.
        """
        async with self._changing:
            return await self._replace(name, only_if_changed=True)

    async def unload(self, name: str) -> None:
        """Take no more frames for `name`; return when those in flight are answered.

        Raises:
            UnknownModelError: If it is not loaded.
        """
        async with self._changing:
            model = self.model(name)
            del self._models[name]
            self._reasons[name] = "unloaded"
            await self._tell(name, ready=False)
        await model.retire()
        log.info("%s: unloaded", name)

    def accept(self) -> None:
        """Accept a frame. Call it the moment the frame is read: what was accepted is served, drain or not.

        Raises:
            DrainingError: If no frames are taken now.
        """
        if self.state == "starting":
            raise DrainingError(_STARTING)
        if self.state == "draining":
            raise DrainingError("the server is draining; send the frame to another or wait for its restart")

    def begin(self, frame: FrameRequest, *, received_ns: int, done: Done) -> FrameCall | None:
        """Serve one frame that was accepted when it arrived, at `received_ns` (monotonic clock).

        Returns:
            The call, to cancel it; None if it has ended already for want of a model. `done` is called once,
            perhaps before this returns, with what `ServedModel.begin` says.
        """

        def counted(result: Answer | IsthmusError) -> None:
            self._count(result)
            done(result)

        try:
            model = self.model(frame.model, frame.version)
        except UnknownModelError as error:
            counted(error)
            return None
        return model.begin(frame, received_ns=received_ns, done=counted)

    async def infer(self, frame: FrameRequest, *, received_ns: int, parent: str = "") -> Answer:
        """Answer one frame, as `begin`; cancelling this cancels the frame.

        Raises:
            UnknownModelError, WireError, PayloadError, BusyError, DrainingError, BackendError: As
                `ServedModel.answer`.
        """
        try:
            model = self.model(frame.model, frame.version)
            answer = await model.answer(frame, received_ns=received_ns, parent=parent)
        except IsthmusError as error:
            self._count(error)
            raise
        self._count(answer)
        return answer

    def _count(self, result: Answer | IsthmusError) -> None:
        self.outcomes[result.outcome if isinstance(result, Answer) else outcome_of(result)] += 1

    async def _replace(self, name: str, *, only_if_changed: bool) -> bool:
        if self._shelf is None or self._opener is None:
            raise UnknownModelError(f"model {name!r} cannot be loaded: this server has a fixed set of models")
        self.accept()
        old = self._models.get(name)
        try:
            bundle = await asyncio.to_thread(self._shelf.load, name)
            if only_if_changed and old is not None and bundle.digest == old.bundle.digest:
                return False
            new = await asyncio.to_thread(self._opener, bundle)
        except IsthmusError as error:
            if not isinstance(error, ServiceError):
                self._reasons[name] = str(error)
            raise
        if self.state == "draining":
            await new.close()
            raise DrainingError("the server is draining; nothing is loaded any more")
        self._models[name] = new
        self._reasons.pop(name, None)
        await self._tell(name, ready=True)
        log.info("%s: serving %s", name, bundle.digest[:12])
        if old is not None:
            task = asyncio.create_task(old.retire())
            self._retiring.add(task)
            task.add_done_callback(self._retiring.discard)
        return True

    async def _tell(self, name: str, *, ready: bool) -> None:
        if self._listener is not None:
            await self._listener(name, ready)
