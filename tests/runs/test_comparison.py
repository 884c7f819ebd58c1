import math

import pytest

from hf_universal_pretrain.runs.comparison import (
    Run,
    compare,
    markdown,
    mean_with_interval,
    ratios,
    targets_of,
    tokens_to_reach,
    verdict,
)


SCRATCH = [(0, 8.0), (100, 4.0), (200, 3.0), (400, 2.5)]


def test_tokens_to_reach_a_target() -> None:
    assert tokens_to_reach(SCRATCH, 4.0) == 100 and tokens_to_reach(SCRATCH, 9.0) == 0
    assert tokens_to_reach(SCRATCH, 3.5) == 150 and tokens_to_reach(SCRATCH, 2.6) == pytest.approx(360)
    assert tokens_to_reach(SCRATCH, 2.4) is None
    assert tokens_to_reach([(0, 5.0), (10, 3.0), (20, 4.0), (30, 2.0)], 2.5) == 27.5  # the last way down counts
    assert tokens_to_reach([(0, 5.0), (10, 3.0), (20, 4.0)], 3.5) == 7.5  # once there is there


def test_targets_are_the_best_so_far() -> None:
    run = Run([(0, 8.0), (50, 3.0), (100, 3.2)], 1.0)
    assert targets_of(run, [0.25, 0.5, 1.0]) == {0.25: 8.0, 0.5: 3.0, 1.0: 3.0}


def test_ratios_count_all_that_was_spent() -> None:
    """The warm start reaches 2.5 after 200 tokens where scratch needs 400, but 600 went before, at twice the price."""
    warm = Run([(0, 6.0), (200, 2.5)], 10.0, earlier_tokens=600, earlier_flops=600 * 10.0 + 6000)
    found = ratios(warm, Run(SCRATCH, 10.0), 2.5)
    assert found == {"real_tokens": 0.5, "all_tokens": 2.0, "flops": (2000 + 12000) / 4000}
    assert ratios(warm, Run(SCRATCH, 10.0), 2.0) is None


def test_interval_is_students() -> None:
    """Of 1, 2, 3: mean 2, standard error 1/sqrt(3), t with two degrees of freedom 4.303."""
    middle, half = mean_with_interval([1.0, 2.0, 3.0])
    assert middle == 2 and half == pytest.approx(4.303 / math.sqrt(3))
    assert mean_with_interval([2.5]) == (2.5, None)


def test_an_arm_is_compared_seed_by_seed() -> None:
    """Seeds differ by a bit, the arm is always .1 better: the paired interval knows, and so does the table."""
    scratch = {s: Run([(0, 8.0), (100, 4.0 + s), (200, 3.0 + s)], 1.0) for s in (0, 1, 2)}
    arm = {s: Run([(0, 8.0), (100, 3.9 + s), (200, 2.9 + s)], 1.0, 50, 100.0, 50.0) for s in (0, 1, 2)}
    compared = compare(arm, scratch, [0.5, 1.0])
    assert compared["gap"]["mean"] == pytest.approx(-0.1) and compared["gap"]["ci95"] == pytest.approx(0, abs=1e-9)
    assert compared["targets"][1.0]["reached"] == 3 and compared["targets"][1.0]["real_tokens"] == pytest.approx(0.95)
    assert compared["earlier_tokens"] == 50 and compared["generation_flops"] == 50
    worse = compare({0: Run([(0, 8.0), (200, 3.5)], 1.0), 5: Run([(0, 8.0), (200, 5.0)], 1.0)}, scratch, [0.5, 1.0])
    assert worse["targets"][1.0] == {"reached": 0, "seeds": 1} and worse["gap"]["ci95"] is None
    rate = {"learning_rate": 1e-3}
    results = {
        "bad": {**rate, **worse},
        "arm": {**rate, **compared, "rate_at_edge": True},
        "none": {"failed": {"a": "b"}},
    }
    lines = markdown(results, [0.5, 1.0]).splitlines()
    assert lines[2].startswith("| arm | 0.001 (edge) | 3.900 (2.900, 3.900, 4.900) | -0.100 ± 0.000 |")
    assert lines[3].startswith("| bad |") and lines[3].split(" | ")[5] == "-"
    assert lines[-1] == "Failed, in part or whole: none."


def test_the_verdict_is_one_sentence_of_what_is_saved() -> None:
    scratch = {seed: Run(SCRATCH, 1.0) for seed in (0, 1)}
    warm = {0: Run([(0, 6.0), (100, 2.5), (400, 2.0)], 1.0), 1: Run([(0, 6.0), (200, 2.5), (400, 2.2)], 1.0)}
    told = verdict("up", warm, "scratch", scratch)
    assert told.startswith("up ends at 2.100 bits, scratch at 2.500. It reaches the end of scratch with 38%")
    assert "(25% to 50% by seed)" in told and told.endswith("it saves 62%.")
    assert verdict("slow", {0: Run([(0, 6.0), (400, 2.6)], 1.0)}, "scratch", scratch).endswith(
        "In 1 of 1 seeds it does not reach the end of scratch."
    )
    assert "no seed" in verdict("other", {5: Run(SCRATCH, 1.0)}, "scratch", scratch)
