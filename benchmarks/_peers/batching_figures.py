"""What turns of load come to: rates, latencies, and how the contenders of `batching` compare."""

from __future__ import annotations

from typing import Any

import numpy as np

from _peers.load import Taken

# Shares of the offline throughput and multiples of a lone frame's time.
TARGET_SHARE = 0.85
TARGET_P99 = 3.0
LOAD = 0.7


def server_of(road: str) -> str:
    """Return the server of `road`: "ours" and "ours_latent" are one."""
    return road.split("_")[0]


def rate(turns: list[Taken]) -> float:
    """Return the median rate of `turns`, frames a second."""
    return float(np.median([taken.frames_per_s for taken in turns]))


def closed(turns: list[Taken]) -> dict[str, Any]:
    """Return the figures of turns in the closed loop."""
    rates = [taken.frames_per_s for taken in turns]
    return {
        "frames_per_s": {"median": float(np.median(rates)), "min": min(rates), "max": max(rates)},
        "frames_per_cpu_s": float(
            np.median([taken.frames_per_s / max(taken.server_share, 1e-9) for taken in turns])
        ),
        **_latency([taken.latency_s for taken in turns]),
        "client_core_share": float(np.mean([taken.client_share for taken in turns])),
        "server_core_share": float(np.mean([taken.server_share for taken in turns])),
        "refused": sum(taken.refused for taken in turns),
        "lost": sum(taken.lost for taken in turns),
    }


def opened(found: list[tuple[float, Taken, Any]]) -> dict[str, Any]:
    """Return the figures of turns in the open loop: the contender's best rate, turn, ideal latencies."""
    turns = [taken for _, taken, _ in found]
    return {
        "offered_frames_per_s": LOAD * found[0][0],
        "frames": sum(len(taken.latency_s) for taken in turns),
        **_latency([taken.latency_s for taken in turns]),
        "ideal_p99_s": float(np.percentile(np.concatenate([ideal_s for _, _, ideal_s in found]), 99)),
        "sent_late_p99_s": float(np.percentile(np.concatenate([taken.late_s for taken in turns]), 99)),
        "client_core_share": float(np.mean([taken.client_share for taken in turns])),
        "refused": sum(taken.refused for taken in turns),
        "lost": sum(taken.lost for taken in turns),
    }


def _latency(latencies_s: list[Any]) -> dict[str, Any]:
    pooled_s = np.concatenate(latencies_s)
    if not len(pooled_s):
        return {"answered": 0}
    first, median, third, p99 = (float(value) for value in np.percentile(pooled_s, (25, 50, 75, 99)))
    return {
        "latency_s": {"median": median, "first_quartile": first, "third_quartile": third},
        "p99_s": p99,
    }


def ratios_of(figures: dict[str, Any], streams: tuple[int, ...]) -> dict[str, Any]:
    """Return how the contenders compare, and whether the targets are met."""
    closed, offline = figures["closed"], figures["offline"]
    rates = {
        road: {key: cell["frames_per_s"]["median"] for key, cell in cells.items()}
        for road, cells in closed.items()
    }
    ratios: dict[str, Any] = {
        "share_of_offline": {
            road: {key: rate / offline[server_of(road)]["best_frames_per_s"] for key, rate in found.items()}
            for road, found in rates.items()
        },
        "share_of_offline_per_cpu": {
            road: {
                key: cell["frames_per_cpu_s"] / offline[server_of(road)]["best_frames_per_cpu_s"]
                for key, cell in cells.items()
            }
            for road, cells in closed.items()
        },
        "ours_over_peer": {
            road: {key: rates["ours"][key] / max(rate, 1e-9) for key, rate in found.items()}
            for road, found in rates.items()
            if server_of(road) != "ours"
        },
    }
    alone = [cell["frames_per_s"]["median"] for key, cell in figures["mixed"].items() if key != "all_points"]
    together = figures["mixed"]["all_points"]["frames_per_s"]["median"]
    # Lines of different points take turns: what they carry together is the harmonic mean, if nothing is lost.
    ratios["mixed_over_alone"] = together * float(np.mean([1 / max(rate, 1e-9) for rate in alone]))
    for road, cell in figures["open"].items():
        if "p99_s" in cell:
            single_s = closed[road][f"{streams[0]}_streams"]["latency_s"]["median"]
            ratios.setdefault("p99_over_single", {})[road] = cell["p99_s"] / single_s
            ratios.setdefault("ideal_p99_over_single", {})[road] = cell["ideal_p99_s"] / single_s
    ratios["throughput_target_met"] = {
        key: share >= TARGET_SHARE for key, share in ratios["share_of_offline"]["ours"].items()
    }
    ratios["p99_target_met"] = ratios["p99_over_single"]["ours"] <= TARGET_P99
    return ratios
