"""Reports: what a run did, from its event logs alone.

`load_runs` reads, `summarise` computes, `write_report` draws. Only the last needs matplotlib, and loads it
when called.
"""

from isthmus.report.html import render_page, write_report
from isthmus.report.load import RunLog, load_runs
from isthmus.report.summary import Summary, summarise

__all__ = ["RunLog", "Summary", "load_runs", "render_page", "summarise", "write_report"]
