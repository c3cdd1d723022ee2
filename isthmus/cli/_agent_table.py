"""What `isthmus agent` shows while it runs: a table on a terminal, a line a second elsewhere, or nothing."""

from __future__ import annotations

from collections import deque
from types import TracebackType
from typing import TYPE_CHECKING

from rich.console import Console
from rich.live import Live
from rich.table import Table

from isthmus.runtime.events import OUTCOMES
from isthmus.runtime.units import format_duration, format_rate

if TYPE_CHECKING:
    from isthmus.device_agents.ledger import Moment
    from isthmus.runtime.events import FrameEvent

_ROWS = 12
# Headings, and cells' widths: 79 characters with a space between them, for terminals of 80 columns.
_COLUMNS = {"time": 7, "link": 9, "point": 8, "bytes": 5, "latency": 7, "last": 7}
_COLUMNS |= {outcome: len(outcome) for outcome in OUTCOMES}


class AgentView:
    """Shows a run; a context manager, because a live table must be taken down whatever happens.

    Args:
        results: Standard output: the table.
        prose: Standard error: notes.
        widths: The bundle's widths, by index.
        table: Whether to show the table.
        notes: Whether to show notes.
    """

    def __init__(
        self, results: Console, prose: Console, *, widths: tuple[float, ...], table: bool, notes: bool
    ) -> None:
        self._results = results
        self._prose = prose
        self._widths = widths
        self._table = table
        self._notes = notes
        self._rows: deque[tuple[str, ...]] = deque(maxlen=_ROWS)
        self._before = dict.fromkeys(OUTCOMES, 0)
        self._live: Live | None = None
        self._headed = False

    def __enter__(self) -> AgentView:
        if self._table and self._results.is_terminal:
            self._live = Live(self._render(), console=self._results, auto_refresh=False)
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def note(self, text: str) -> None:
        """Show one line about something that changed."""
        if self._notes:
            # Beside a live table the line must go through its console, which moves the table down.
            (self._live.console if self._live is not None else self._prose).print(
                text, markup=False, soft_wrap=True
            )

    def moment(self, moment: Moment) -> None:
        """Show the state of the run."""
        if not self._table:
            return
        row = self._row(moment)
        if self._live is not None:
            self._rows.append(row)
            self._live.update(self._render(), refresh=True)
            return
        if not self._headed:
            self._line(tuple(_COLUMNS))
            self._headed = True
        self._line(row)

    def _row(self, moment: Moment) -> tuple[str, ...]:
        link, last = moment.link, moment.last
        state = format_rate(link.rate_bytes_per_s) if link.connected else "down"
        counts = moment.summary.outcomes
        since = [counts[outcome] - self._before[outcome] for outcome in OUTCOMES]
        self._before = dict(counts)
        return (
            f"{moment.elapsed_s:.0f} s",
            state,
            *self._frame(last),
            *(str(count or "") for count in since),
        )

    def _frame(self, last: FrameEvent | None) -> tuple[str, str, str, str]:
        if last is None:
            return "", "", "", ""
        point = last.point
        return (
            f"{self._widths[point.width_index]:g}×{point.channels}" if point else "",
            str(last.payload_bytes or ""),
            "" if last.latency_s is None else format_duration(last.latency_s),
            last.outcome,
        )

    def _render(self) -> Table:
        caption = "a row a second: its last frame, and how many frames ended in which way"
        table = Table(caption=caption, box=None, padding=(0, 1, 0, 0), pad_edge=False)
        for column, width in _COLUMNS.items():
            table.add_column(column, justify="right", no_wrap=True, min_width=width)
        for row in self._rows:
            table.add_row(*row)
        return table

    def _line(self, cells: tuple[str, ...]) -> None:
        text = " ".join(cell.rjust(width) for cell, width in zip(cells, _COLUMNS.values(), strict=True))
        self._results.print(text, markup=False, soft_wrap=True)
