"""A server as Prometheus sees it: two readings of its metrics page make rates, batches, queues and waits.

Decides which metrics mean what. Pure: readings and instants are arguments; `scraping` fetches.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Mapping
from typing import Any

from isthmus.runtime.errors import PeerError

# Readings kept for the page's small charts.
_HISTORY = 120
_STAGES = ("decode", "queue", "compute", "total")

Labels = tuple[tuple[str, str], ...]
Samples = Mapping[str, Mapping[Labels, float]]


def parse_page(text: str) -> dict[str, dict[Labels, float]]:
    """Return the samples of a metrics page, by name and labels.

    Raises:
        PeerError: If it is no page of metrics, or not one of ours.
    """
    from prometheus_client.parser import text_string_to_metric_families

    samples: dict[str, dict[Labels, float]] = defaultdict(dict)
    try:
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                samples[sample.name][tuple(sorted(sample.labels.items()))] = float(sample.value)
    except (ValueError, KeyError, IndexError) as error:
        raise PeerError(
            f"not a metrics page ({error}); give that of 'isthmus serve --metrics-port'"
        ) from None
    if not any(name.startswith("isthmus_") for name in samples):
        raise PeerError("no metric of Isthmus on it; give the page of 'isthmus serve --metrics-port'")
    return dict(samples)


class Server:
    """One server, by its metrics page.

    Args:
        url: Of the page; also its name.

    Attributes:
        trouble: Why the last reading failed, in words; empty if it did not.
        answered_s: Instant of the last reading; None before the first.
        certificate_end_unix_s: Until when its certificate is valid; None: it speaks plain text.
        models: What the page shows of each model.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.trouble = ""
        self.answered_s: float | None = None
        self.certificate_end_unix_s: float | None = None
        self.models: dict[str, dict[str, Any]] = {}
        self._before: tuple[float, Samples] | None = None
        self._charts: dict[str, deque[tuple[float | None, float | None, float | None]]] = {}

    def read(self, samples: Samples, at_s: float) -> None:
        """Take a reading of `at_s`."""
        self.trouble, self.answered_s = "", at_s
        end = samples.get("isthmus_certificate_not_after_seconds", {}).get((), 0.0)
        self.certificate_end_unix_s = end or None  # 0: never set
        before_s, before = self._before or (at_s, samples)
        self._before = at_s, samples
        # A counter that fell: the server was started again, and counts from zero.
        seconds = 0.0 if _fell(samples, before) else at_s - before_s
        providers = {
            labels["model"]: labels["provider"]
            for labels in map(dict, samples.get("isthmus_model_loaded", {}))
            if samples["isthmus_model_loaded"][tuple(sorted(labels.items()))] > 0
        }
        names = sorted(providers.keys() | _models(samples))
        self.models = {name: self._model(name, samples, before, seconds) for name in names}
        for name, shown in self.models.items():
            shown["provider"] = providers.get(name)
            charts = self._charts.setdefault(name, deque(maxlen=_HISTORY))
            charts.append((shown["frames_per_s"], shown["batch"], shown["queued"]))

    def failed(self, why: str) -> None:
        """Note that the page could not be read; what was read before stays shown, as old."""
        self.trouble = why
        self._before = None

    def shown(self) -> dict[str, Any]:
        """Return what a page shows of it."""
        return {
            "url": self.url,
            "trouble": self.trouble,
            "certificate_end_unix_s": self.certificate_end_unix_s,
            "models": [
                {"name": name, **shown, "chart": list(self._charts.get(name, ()))}
                for name, shown in self.models.items()
            ],
        }

    def refused_share(self) -> float:
        """Return the share of the latest frames that were not answered in order, over all models."""
        counts: dict[str, float] = defaultdict(float)
        for shown in self.models.values():
            for outcome, rate in shown["outcomes_per_s"].items():
                counts[outcome] += rate
        total = sum(counts.values())
        return 1.0 - counts["ok"] / total if total > 0 else 0.0

    def _model(self, name: str, samples: Samples, before: Samples, seconds: float) -> dict[str, Any]:
        def rise(metric: str, **labels: str) -> float:
            key = tuple(sorted({"model": name, **labels}.items()))
            return samples.get(metric, {}).get(key, 0.0) - before.get(metric, {}).get(key, 0.0)

        outcomes = {
            dict(labels)["outcome"]: rise("isthmus_frames_total", outcome=dict(labels)["outcome"])
            for labels in samples.get("isthmus_frames_total", {})
            if dict(labels).get("model") == name
        }
        frames, batches = sum(outcomes.values()), rise("isthmus_batch_latents_count")
        per_s = 1.0 / seconds if seconds > 0 else 0.0
        return {
            "frames_per_s": frames * per_s if seconds > 0 else None,
            "outcomes_per_s": {outcome: count * per_s for outcome, count in outcomes.items()},
            "bytes_in_per_s": rise("isthmus_payload_bytes_total", direction="in") * per_s,
            "batch": rise("isthmus_batch_latents_sum") / batches if batches > 0 else None,
            "busy": min(1.0, rise("isthmus_compute_seconds_total") * per_s),
            "queued": samples.get("isthmus_queued_latents", {}).get((("model", name),)),
            "stages": {stage: _stage(name, stage, samples, before) for stage in _STAGES},
        }


def _stage(model: str, stage: str, samples: Samples, before: Samples) -> dict[str, float | None]:
    """Return median and 99th percentile (seconds) of what the histogram of a stage got between readings."""
    rises: list[tuple[float, float]] = []
    for labels, count in samples.get("isthmus_stage_seconds_bucket", {}).items():
        said = dict(labels)
        if said.get("model") == model and said.get("stage") == stage:
            earlier = before.get("isthmus_stage_seconds_bucket", {}).get(labels, 0.0)
            rises.append((float(said["le"]), count - earlier))
    rises.sort()
    return {"p50": _quantile(rises, 0.5), "p99": _quantile(rises, 0.99)}


def _quantile(cumulated: list[tuple[float, float]], share: float) -> float | None:
    """Return a quantile of a cumulated histogram, linear within a bucket, as PromQL's histogram_quantile."""
    total = cumulated[-1][1] if cumulated else 0.0
    if total <= 0:
        return None
    below_s = below = 0.0
    for bound_s, count in cumulated:
        if count >= share * total:
            if bound_s == float("inf"):
                return below_s
            return below_s + (bound_s - below_s) * (share * total - below) / (count - below)
        below_s, below = bound_s, count
    return None


def _models(samples: Samples) -> set[str]:
    return {dict(labels)["model"] for labels in samples.get("isthmus_queued_latents", {})}


def _fell(samples: Samples, before: Samples) -> bool:
    return any(
        count < before.get("isthmus_frames_total", {}).get(labels, 0.0)
        for labels, count in samples.get("isthmus_frames_total", {}).items()
    )
