"""Links: rate traces, a shaping proxy between real processes, and a link on a virtual clock."""

from isthmus.runtime.links.formats import load_trace, parse_trace
from isthmus.runtime.links.proxy import ShapingProxy
from isthmus.runtime.links.shaper import Shaper
from isthmus.runtime.links.sim import SimLink
from isthmus.runtime.links.trace import RateTrace

__all__ = ["RateTrace", "Shaper", "ShapingProxy", "SimLink", "load_trace", "parse_trace"]
