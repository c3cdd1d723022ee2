import pytest

from isthmus.partitioner.search import refusals, score, search
from isthmus.runtime.errors import PlanError


def test_what_is_found_scores_the_same_and_breaks_nothing(random_problem) -> None:
    scored = 0
    for seed in range(150):
        problem = random_problem(seed)
        for split in search(problem).pareto:
            assert refusals(problem, split) == ()
            # A dead end may be on either side of a cut: the least device set is the one that is scored.
            if split.bottleneck is None:
                try:
                    again = score(problem, frozenset(split.frontier))
                except PlanError:
                    continue
                scored += split in again
    assert scored > 100


def test_every_other_way_is_refused(random_problem, brute_force) -> None:
    refused = 0
    for seed in range(150):
        problem = random_problem(seed)
        fit = [way for way in brute_force(problem) if _on_time(problem, way)]
        for tensor in problem.graph.tensors:
            try:
                splits = score(problem, frozenset([tensor.name]))
            except PlanError:
                continue
            for split in splits:
                known = any(way.mask == split.device_mask and way.encodings == split.encodings for way in fit)
                assert bool(refusals(problem, split)) == (not known)
                refused += not known
    assert refused > 20


def _on_time(problem, way) -> bool:
    limits = problem.constraints
    return limits.deadline_s is None or 1 - way.late >= limits.deadline_probability


def test_names_that_do_not_exist(random_problem) -> None:
    with pytest.raises(PlanError, match="no tensor 'nowhere' in the graph"):
        score(random_problem(1), frozenset(["nowhere"]))
