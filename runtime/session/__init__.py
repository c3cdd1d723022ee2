"""The life of frames as pure state machines: no clock, no socket, no thread; time is an argument."""

from isthmus.runtime.session.backoff import FullJitter
from isthmus.runtime.session.frames import Session
from isthmus.runtime.session.quantiles import Quantiles
from isthmus.runtime.session.tally import PointUse, RunSummary, Tally

__all__ = ["FullJitter", "PointUse", "Quantiles", "RunSummary", "Session", "Tally"]
