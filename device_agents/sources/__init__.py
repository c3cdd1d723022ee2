"""Where frames come from: cameras, video files, folders, arrays, and a pattern that needs no file."""

from isthmus.device_agents.sources.images import ImageSource
from isthmus.device_agents.sources.opening import SOURCE_HELP, open_source
from isthmus.device_agents.sources.source import FrameSource, NoNewFrame, OpenSource, SourceEnded

__all__ = [
    "SOURCE_HELP",
    "FrameSource",
    "ImageSource",
    "NoNewFrame",
    "OpenSource",
    "SourceEnded",
    "open_source",
]
