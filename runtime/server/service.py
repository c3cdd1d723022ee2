"""The service itself: which models there are, and whether frames are taken. Knows no gRPC."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Literal

from isthmus.runtime.errors import BusyError, DrainingError, IsthmusError, UnknownModelError
from isthmus.runtime.server.model import VERSION, ServedModel
from isthmus.runtime.wire import Answer, AnswerOutcome, FrameRequest

State = Literal["starting", "serving", "draining"]


class TailService:
    """Answers frames for any number of models.

    Attributes:
        state: "starting" until `open`, then "serving", then "draining" for good.
        outcomes: How many frames ended in each outcome so far.
    """

    def __init__(self) -> None:
        """Make a service that takes no frames yet."""
        self.state: State = "starting"
        self.outcomes: Counter[AnswerOutcome] = Counter()
        self._models: dict[str, ServedModel] = {}

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
            UnknownModelError: If there is no such model or version.
        """
        found = self._models.get(name)
        if found is None:
            names = ", ".join(f"'{known}'" for known in self._models)
            raise UnknownModelError(f"unknown model {name!r}; this server has {names or 'none yet'}")
        if version not in ("", VERSION):
            raise UnknownModelError(f"model '{name}' has no version {version!r}, only '{VERSION}'")
        return found

    def accept(self) -> None:
        """Accept a frame. Call it the moment the frame is read: what was accepted is served, drain or not.

        Raises:
            DrainingError: If no frames are taken now.
        """
        if self.state == "starting":
            raise DrainingError("the server is starting; try again when it is ready")
        if self.state == "draining":
            raise DrainingError("the server is draining; send the frame to another or wait for its restart")

    async def infer(self, frame: FrameRequest, *, received_ns: int) -> Answer:
        """Answer one frame that was accepted when it arrived, at `received_ns` (monotonic clock).

        Raises:
            UnknownModelError, WireError, PayloadError, BusyError, BackendError: As `ServedModel.answer`.
        """
        try:
            answer = await self.model(frame.model, frame.version).answer(frame, received_ns=received_ns)
        except IsthmusError as error:
            self.outcomes[outcome_of(error)] += 1
            raise
        self.outcomes[answer.outcome] += 1
        return answer


def outcome_of(error: IsthmusError) -> AnswerOutcome:
    """Return what `error` means for a frame: "busy" if another attempt may succeed, else "failed"."""
    return "busy" if isinstance(error, BusyError | DrainingError) else "failed"
