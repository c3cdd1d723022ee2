"""Fault scenarios: real agents, servers and links that something happens to, and the same in virtual time.

`bench faults` and tests/integration/test_faults.py play the same ones. `SCENARIOS` lists them; `play` plays
one and returns its `Verdict`.
"""

from _faults.company import Company
from _faults.scenario import Played, Scenario, play
from _faults.table import SCENARIOS
from _faults.verdict import LEAST_BEFORE, TARGET, Verdict, judge

__all__ = ["LEAST_BEFORE", "SCENARIOS", "TARGET", "Company", "Played", "Scenario", "Verdict", "judge", "play"]
