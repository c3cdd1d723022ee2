"""Results on their way back to whoever asked for them: one image, or a whole source."""

from __future__ import annotations

import asyncio

from isthmus.device_agents.delivery.results import Result


class Replies:
    """Who waits for which result. Lives on the event loop's thread."""

    def __init__(self) -> None:
        self._waiting: dict[int, asyncio.Future[Result]] = {}
        self._stream: asyncio.Queue[Result | None] | None = None

    @property
    def streaming(self) -> bool:
        """A reader takes what nobody else waits for."""
        return self._stream is not None

    def expect(self, frame: int) -> asyncio.Future[Result]:
        """Return the future of the result of `frame`, which is about to be captured."""
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._waiting[frame] = future
        return future

    def take(self, result: Result) -> None:
        """Hand `result` to who waits for it; to the stream, if there is one and nobody else does."""
        future = self._waiting.pop(result.frame, None)
        if future is None:
            if self._stream is not None:
                self._stream.put_nowait(result)
        elif not future.done():
            future.set_result(result)

    def open_stream(self) -> asyncio.Queue[Result | None]:
        """Return a queue of the results that nobody waits for; None ends it."""
        self._stream = asyncio.Queue()
        return self._stream

    def end_stream(self) -> None:
        """Let the reader of the stream know that nothing more comes."""
        if self._stream is not None:
            self._stream.put_nowait(None)

    def close_stream(self) -> None:
        """Forget the stream."""
        self._stream = None

    def fail(self, error: BaseException | None) -> bool:
        """End everything that waits, with `error` or as cancelled; say whether anyone was told."""
        waiting, self._waiting = self._waiting, {}
        open_ones = [future for future in waiting.values() if not future.done()]
        for future in open_ones:
            if error is None:
                future.cancel()
            else:
                future.set_exception(error)
        self.end_stream()
        return bool(open_ones)
