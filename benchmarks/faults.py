"""What faults cost: is every frame accounted for, and how soon is the utility back.

Options:
    only: A regular expression; of the scenarios, those whose name it is found in. Default: all.
    jobs: How many scenarios are played side by side.

Real `isthmus serve`, `isthmus agent run` and `isthmus link` processes on loopback, and a few scenarios in a
network namespace (root) or on the simulator's clock; see `_faults/`. 20 frames a second with 250 ms each
(virtual: 30 and 150 ms), on a small bundle whose early exit is right about half as often as its server.

- `conserved`: in the event log every captured frame ends exactly once, its counts are those of its last
  event and of the agent's own summary, and they add up to the frames captured.
- Utility of a frame: the measured accuracy, in the bundle's table, of what answered it in time: the point
  that was sent, or the early exit of its width; 0 for a frame that was late or dropped. Means are over frames
  by when they were captured: `before` over the last 4 s before the fault (less a deadline), `first_2_s` from
  the return on, `after` over the 4 s that follow. A server that swallowed frames may take 3 s instead of 2.
- `recovered_s`: from the return until one second's mean is at least 95 % of `before`.
- The return: of a link when its own log says that it carries again; of a server when it says that it is
  ready, or takes SIGCONT; of a failover the death of the first server, for the other one is there all along.
- `ratios`: `after` over `before`. The target is 0.95. Virtual scenarios are played with eight seeds; the
  ratio is the lowest of them and `recovered_s` the longest.

`quick` plays three.
"""

from __future__ import annotations

import math
import re
from typing import Any

from _faults import SCENARIOS, TARGET, Company, Scenario, Verdict

from isthmus.runtime.errors import InputError
from isthmus.runtime.links.tun import check_supported

_QUICK = ("answers that come twice (process)", "disk full (process)", "link cut for 3 s (virtual)")


def run(*, quick: bool = False, only: str = "", jobs: int = 3) -> dict[str, Any]:
    """Return what each scenario showed, and the ratios of those in which something comes back.

    Raises:
        InputError: If no scenario is left.
    """
    chosen = [one for one in SCENARIOS if re.search(only, one.title) and (not quick or one.title in _QUICK)]
    left_out = [] if _has_namespaces() else [one.title for one in chosen if one.backend == "netns"]
    chosen = [one for one in chosen if one.title not in left_out]
    if not chosen:
        raise InputError(f"only {only!r}: none of the {len(SCENARIOS)} scenarios has that in its name")
    table, ratios = {}, {}
    with Company(chosen, jobs=jobs) as company:
        for scenario in chosen:
            verdict = company.verdict(scenario)
            table[scenario.title] = _row(scenario, verdict)
            ratio = _ratio(verdict)
            if ratio is not None:
                ratios[scenario.title] = ratio
    figures: dict[str, Any] = {
        "scenarios": len(chosen),
        "conserved": sum(row["conserved"] == "yes" for row in table.values()),
        "with_a_return": len(ratios),
        "within_target": sum(ratio >= TARGET for ratio in ratios.values()),
        "frames": sum(row["captured"] for row in table.values()),
        "table": table,
    }
    if left_out:
        figures["left_out_for_want_of_namespaces"] = left_out
    if ratios:
        ratios = {"worst": min(ratios.values()), "target": TARGET, "after_over_before": ratios}
    return {"figures": figures, "ratios": ratios}


def _row(scenario: Scenario, verdict: Verdict) -> dict[str, Any]:
    row: dict[str, Any] = {
        "backend": scenario.backend,
        "captured": verdict.captured,
        "outcomes": ", ".join(f"{count} {kind}" for kind, count in verdict.outcomes.items()),
        "conserved": "yes" if verdict.conserved else "; ".join(verdict.violations[:3]),
    }
    if verdict.ratio is not None:
        row |= {"before": verdict.before, "first_2_s": verdict.first, "after": verdict.after}
        recovered_s = verdict.recovered_s
        late = recovered_s is None or math.isinf(recovered_s)
        row["recovered_s"] = "not in 5 s" if late else recovered_s
    return row


def _ratio(verdict: Verdict) -> float | None:
    return verdict.ratio if verdict.worst_ratio is None else verdict.worst_ratio


def _has_namespaces() -> bool:
    try:
        check_supported()
    except InputError:
        return False
    return True
