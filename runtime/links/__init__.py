"""Links: rate traces, a shaping proxy between real processes, and a link on a virtual clock."""

from isthmus.runtime.links.formats import GENERATORS, load_trace, parse_trace
from isthmus.runtime.links.proxy import ShapingProxy
from isthmus.runtime.links.shaper import Shaper
from isthmus.runtime.links.sim import SimLink
from isthmus.runtime.links.statistics import TraceFacts, binned_rates, describe_trace
from isthmus.runtime.links.trace import RateTrace
from isthmus.runtime.links.writing import WRITERS

__all__ = [
    "GENERATORS",
    "WRITERS",
    "RateTrace",
    "Shaper",
    "ShapingProxy",
    "SimLink",
    "TraceFacts",
    "binned_rates",
    "describe_trace",
    "load_trace",
    "parse_trace",
]
