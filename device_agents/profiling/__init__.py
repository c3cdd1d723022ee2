"""The profiler: where a frame's time goes on this device, per operating point, and whether to believe it.

`ways` lists what can be measured of a bundle, `scenarios` says when frames are asked for, `device_target` and
`linked_target` answer them, `steadiness` says when a figure counts, `measuring` brings them together.
"""

from __future__ import annotations
