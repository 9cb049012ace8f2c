"""Tests of what `--plan` prints. Oracle: counts from the axes, by hand, and sums over shards."""

import io
from typing import Any

import pytest
from builders import ablation
from rich.console import Console

from cluster.sweeps import preview
from cluster.sweeps.estimate import estimate
from cluster.sweeps.plan import Plan, make_plan
from cluster.sweeps.summary import ALL, MOST_ROWS, summed_up
from jobs.mnist_ablation.experiment import ABLATION


def plan_of(**axes: Any) -> Plan:
    return make_plan(ABLATION, ablation(**axes), "a")


def test_the_rows_are_networks_rules_and_t_in_the_order_of_the_cells() -> None:
    plan = plan_of(networks=["784-4-10", "784-2-10"], seeds=[1, 2, 3])
    rows = summed_up(plan, plan.shards, plan.seconds)
    rules = ["Z-IL", "IL, t = 0", "IL, t = 16", "Fa-Z-IL", "BP"]
    assert list(rows) == [(n, rule) for n in ("784-4-10", "784-2-10") for rule in rules]
    # Z-IL has two gammas and another sigma, IL one trial at t = 0 and two gammas at t = 16
    assert [row.trials for row in rows.values()] == [3 * n for n in (3, 1, 2, 1, 1)] * 2


@pytest.mark.parametrize("left", [slice(None), slice(1, None), slice(0)])
def test_the_rows_add_up_to_the_shards_that_are_left(left: slice) -> None:
    plan = plan_of(networks=["784-4-10", "784-2-10"], seeds=[1, 2])
    shards = plan.shards[left]
    rows = summed_up(plan, shards, plan.seconds).values()
    assert sum(row.trials for row in rows) == sum(len(shard.trials) for shard in shards)
    assert sum(row.updates for row in rows) == pytest.approx(
        sum(ABLATION.updates(shard.trials) for shard in shards)
    )
    assert sum(row.seconds for row in rows) == pytest.approx(
        sum(plan.seconds[shard.shard_id] for shard in shards)
    )


def test_more_steps_take_more_of_a_shards_time() -> None:
    plan = plan_of(t=[1, 64], gamma=[1.0], sigma=[0.0, 0.1])
    rows = summed_up(plan, plan.shards, plan.seconds)
    assert rows["784-2-10", "IL, t = 64"].seconds > rows["784-2-10", "IL, t = 1"].seconds


@pytest.mark.parametrize(
    ("networks", "steps", "rows"),
    [
        (1, range(MOST_ROWS - 3), MOST_ROWS),
        (1, range(MOST_ROWS - 2), 4),
        (MOST_ROWS // 2, [1], MOST_ROWS // 2),
        (MOST_ROWS + 1, [1], 1),
    ],
)
def test_a_summary_fits_a_screen(networks: int, steps: Any, rows: int) -> None:
    names = [f"784-{width}-10" for width in range(2, 2 + networks)]
    plan = plan_of(networks=names, t=steps, gamma=[1.0], sigma=[0.0, 0.1])
    found = summed_up(plan, plan.shards, plan.seconds)
    assert len(found) == rows
    assert sum(row.trials for row in found.values()) == len(plan.trials)
    if networks > MOST_ROWS:
        assert list(found) == [(ALL, ALL)]


@pytest.mark.parametrize("seeds", [1, 9, 100])
def test_a_plan_is_printed_in_a_few_lines_whatever_its_size(seeds: int) -> None:
    plan = plan_of(networks=["784-4-10", "784-2-10"], seeds=range(seeds))
    text = io.StringIO()
    expected = estimate(plan, plan.shards, workers=2)
    preview.print_plan(Console(file=text, width=120), plan, plan.shards, expected)
    lines = text.getvalue().splitlines()
    assert len(lines) < 35
    longest = sorted(plan.shards, key=lambda shard: -plan.seconds[shard.shard_id])
    shown = [line.split()[0] for line in lines if "-" in line and line.strip()[:4].isdigit()]
    wanted = [shard.shard_id for shard in longest[: preview.LONGEST_SHOWN]]
    assert [name for name in shown if name in plan.seconds] == wanted
    assert f"{len(plan.trials):,} trials in {len(plan.shards):,} shards" in lines[-2]
