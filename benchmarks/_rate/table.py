"""The table of `rate_accuracy` as Markdown: the front of every method, then how ours compares."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_LONGER = (
    "`slim` was trained on more images than the other networks; they and `slim-short` saw equally many, and "
    "are compared with each other under *equal budget*; `slim-total` saw as many as the networks of one "
    "width together."
)


def markdown(task: str, figures: Mapping[str, Any], ratios: Mapping[str, Any]) -> str:
    """Return the tables of `figures` and `ratios`, as `rate_accuracy.run` makes them."""
    lines = [f"# Accuracy against bytes: {task}", ""]
    if figures["missing"] != "none":
        lines += [f"Not trained here, hence missing: {', '.join(figures['missing'])}.", ""]
    if figures["left_out"] != "none":
        lines += [f"Left out, for the comparison has no such network: {', '.join(figures['left_out'])}.", ""]
    if any("slim-short" in figures[part] and "slim" in figures[part] for part in ratios):
        lines += [_LONGER, ""]
    for part, compared in ratios.items():
        table = figures[part]
        uncut = table["uncut network"]
        lines += [
            f"## {table['images']} images: {part}",
            "",
            f"Uncut network: {uncut['accuracy_percent']:.1f} % in {uncut['device_ms']:.2f} ms on the device.",
            "Each method's front; the points lost are paired over the same images, with 95 % intervals.",
            "",
            "| method | setting | bytes | accuracy % | points from uncut | agrees % | device ms |",
            "|---|---|---|---|---|---|---|",
            *_fronts(table),
            "",
        ]
        for measure, shown in compared.items():
            lines += _OTHERS.get(measure, _compared)(measure, shown)
    return "\n".join(lines)


def _fronts(table: Mapping[str, Any]) -> list[str]:
    rows = []
    for method, settings in table.items():
        if method in ("images", "uncut network"):
            continue
        for setting, one in sorted(settings.items(), key=lambda item: item[1]["bytes_mean"]):
            if not one["on_front"]:
                continue
            lost = one["points_from_uncut"]
            rows.append(
                f"| {method} | {setting} | {one['bytes_mean']:.0f} | {one['accuracy_percent']:.1f} | "
                f"{lost['value']:+.1f} ({lost['low']:+.1f} to {lost['high']:+.1f}) | "
                f"{one['agreement_percent']:.1f} | {one['device_ms']:.2f} |"
            )
    return rows


def _compared(measure: str, shown: Mapping[str, Any]) -> list[str]:
    ours = shown["bytes_at_1_point_ours"]
    lines = [
        f"By {measure}: ours needs {_bytes(ours)} for 1.0 point below the uncut network.",
        "",
        "| against | their bytes there | ours / theirs | Bjøntegaard rate % | over | over all | that is |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, row in shown.items():
        if not isinstance(row, Mapping):
            continue
        cells = [
            _bytes(row["bytes_at_1_point"]),
            str(row["ours_over_theirs"]),
            _rate(row["bjontegaard_rate_percent"]),
            row["stretch_percent"],
            _rate(row["bjontegaard_over_all_percent"]),
            row["all_percent"],
        ]
        lines.append(f"| {' | '.join([name, *cells])} |")
    return [*lines, ""]


def _rate(rate: Any) -> str:
    if isinstance(rate, str):
        return rate
    drawn = f" in {rate['drawn_percent']:.1f} % of draws" if "drawn_percent" in rate else ""
    return f"{rate['value']:.1f} ({rate['low']:.1f} to {rate['high']:.1f}{drawn})"


def _spans(_: str, shown: Mapping[str, Any]) -> list[str]:
    return [
        f"Ours has {shown['points']} operating points, {shown['points_on_front']} of them on its front: "
        f"{shown['bytes_on_front']} bytes ({shown['bytes_span']} times; all points "
        f"{shown['bytes_span_of_all_points']}), "
        f"heads of {shown['head_ms']} ms ({shown['head_time_span']} times).",
        "",
    ]


def _differences(measure: str, shown: Mapping[str, Any]) -> list[str]:
    lines = [
        f"{measure.capitalize()}, equal budget: points of accuracy (95 %), over all operating points.",
        "",
        "| what | widest point | mean | worst point | bytes | mean by width |",
        "|---|---|---|---|---|---|",
    ]
    for name, row in shown.items():
        if row["points"] == "none in common":
            continue
        widths = ", ".join(f"{width}: {one['value']:+.1f}" for width, one in row["by_width"].items())
        lines.append(
            f"| {name} | {_points(row['widest_point'])} | {_points(row['mean'])} | "
            f"{_points(row['worst'])} | × {row['bytes_ratio_mean']:.2f} | {widths} |"
        )
    return [*lines, ""]


def _points(one: Mapping[str, Any]) -> str:
    at = f" at {one['at']}" if "at" in one else ""
    return f"{one['value']:+.1f} ({one['low']:+.1f} to {one['high']:+.1f}){at}"


_OTHERS = {
    "spans": _spans,
    "one for all widths minus one per width": _differences,
    "ablations minus whole": _differences,
}


def _bytes(value: Any) -> str:
    return value if isinstance(value, str) else f"{value:.0f} bytes"
