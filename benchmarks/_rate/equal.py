"""Networks that were trained alike, point by point: one for all widths against one each, and ablations.

Pure arithmetic on `Setting`s that have operating points.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from _rate.curves import Images, Setting, front, interval

Point = tuple[float, int]


def by_point(settings: Sequence[Setting]) -> dict[Point, Setting]:
    """Return the settings of one bundle by (width, channels)."""
    return {one.point: one for one in settings if one.point is not None}


def against_dedicated(
    images: Images, shared: Sequence[Setting], dedicated: Mapping[float, Sequence[Setting]]
) -> dict[str, Any]:
    """Return what sharing costs: accuracy of one network for all widths minus that of one per width.

    Args:
        images: That all ran over.
        shared: The slimmable network's settings.
        dedicated: By width, those of a network of that width alone.
    """
    ours = by_point(shared)
    pairs: dict[Point, tuple[Setting, Setting]] = {}
    for width, settings in dedicated.items():
        for (_, channels), one in by_point(settings).items():
            if (width, channels) in ours:
                pairs[width, channels] = (ours[width, channels], one)
    return _points(images, pairs)


def against_whole(images: Images, whole: Sequence[Setting], without: Sequence[Setting]) -> dict[str, Any]:
    """Return what leaving something out does: accuracy without it minus accuracy with it, at every point."""
    ours, others = by_point(whole), by_point(without)
    return _points(images, {point: (others[point], ours[point]) for point in ours if point in others})


def spans(images: Images, settings: Sequence[Setting]) -> dict[str, Any]:
    """Return how far the front of one bundle reaches: largest over smallest bytes and head times."""
    sizes = np.array([images.sizes(one)[0] for one in settings])
    scores = np.array([images.scores(one)[0] for one in settings])
    kept = sizes[front(sizes, scores)]
    heads = [one.head_s for one in settings if one.head_s is not None]
    return {
        "points": len(settings),
        "points_on_front": len(kept),
        "bytes_on_front": f"{kept.min():.0f} to {kept.max():.0f}",
        "bytes_span": round(float(kept.max() / kept.min()), 2),
        "bytes_span_of_all_points": round(float(sizes.max() / sizes.min()), 2),
        "head_ms": f"{1000 * min(heads):.3f} to {1000 * max(heads):.3f}" if heads else "none",
        "head_time_span": round(max(heads) / min(heads), 2) if heads else "none",
    }


def _points(images: Images, pairs: Mapping[Point, tuple[Setting, Setting]]) -> dict[str, Any]:
    """Return the differences first minus second of all pairs, their mean, and the worst."""
    if not pairs:
        return {"points": "none in common"}
    differences = {point: images.scores(one) - images.scores(other) for point, (one, other) in pairs.items()}
    ratios = [images.sizes(one)[0] / images.sizes(other)[0] for one, other in pairs.values()]
    worst = min(differences, key=lambda point: float(differences[point][0]))
    widest = max(differences)
    return {
        "points": len(pairs),
        "widest_point": _shown(widest, differences[widest]),
        "mean": interval(np.mean(list(differences.values()), axis=0)).as_figures(100, 2),
        "worst": _shown(worst, differences[worst]),
        "bytes_ratio_mean": round(float(np.exp(np.mean(np.log(ratios)))), 3),
        "by_width": {
            f"{width:g}": interval(
                np.mean([values for (at, _), values in differences.items() if at == width], axis=0)
            ).as_figures(100, 2)
            for width in sorted({width for width, _ in differences})
        },
    }


def _shown(point: Point, difference: Any) -> dict[str, Any]:
    return {"at": f"{point[0]:g}x{point[1]}", **interval(difference).as_figures(100, 2)}
