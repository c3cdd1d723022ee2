"""Reports: what a run did, from its event logs alone.

`load_runs` reads, `summarise` computes, `write_report` says it as a page, a picture, Markdown, JSON or CSV.
Only pages and pictures need matplotlib, and load it when asked for.
"""

from isthmus.report.formats import Format, write_report
from isthmus.report.load import load_runs
from isthmus.report.runlog import RunLog
from isthmus.report.summary import Summary, summarise

__all__ = ["Format", "RunLog", "Summary", "load_runs", "summarise", "write_report"]
