"""Tests of the identity of a timing and of its plan."""

import json
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from builders import ablation, planned
from command_lines import ROOT, called, files

from cluster.nodes.resources import Resources, device_of
from cluster.sweeps.plan import make_plan
from cluster.sweeps.stored import adopt_plan, read_plan, store_plan
from cluster.sweeps.sweep import Sweep
from jobs.experiments import EXPERIMENTS
from jobs.imagenet_timing.configuration import (
    TimingConfiguration,
    timing_configuration,
)
from jobs.imagenet_timing.cost import update_seconds
from jobs.imagenet_timing.experiment import TIMING
from jobs.imagenet_timing.sweep import imagenet_timing
from pcworker.errors import InputError
from pcworker.plain import from_json
from pcworker.store.local import LocalStore
from pcworker.store.sealed import seal
from pcworker.trials.trial import Trial

WRITTEN = ROOT / "tests" / "data" / "timing_plan_of_32be588.json"
"""A plan that was stored when every timing was plain, and said nothing of executions."""


def timing(**changes: Any) -> TimingConfiguration:
    return timing_configuration(**{"network": "small-conv", "rule": "Z-IL", **changes})


def sweep(**changes: Any) -> Sweep[TimingConfiguration]:
    values: dict[str, Any] = {
        "networks": ["small-conv", "alexnet"],
        "seeds": [1],
        "rules": ["BP", "IL", "Z-IL", "Fa-Z-IL"],
        "schedules": ["layerwise", "literal"],
        "t": [10, 20],
    }
    return imagenet_timing(**(values | changes))


@pytest.mark.parametrize(
    ("rule", "used"),
    [
        ("BP", {}),
        ("IL", {"t": 5, "gamma": 0.1, "schedule": "literal", "arithmetic": "textbook"}),
        ("Z-IL", {"gamma": 1.0, "schedule": "literal", "arithmetic": "textbook"}),
        ("Fa-Z-IL", {"gamma": 1.0, "t_d": 4, "horizon": 3, "schedule": "literal",
                     "arithmetic": "textbook"}),
    ],
)  # fmt: skip
def test_what_a_rule_does_not_use_is_null(rule: str, used: dict[str, Any]) -> None:
    config = timing(rule=rule, t=5, schedule="literal", arithmetic="textbook")
    names = ("t", "t_d", "horizon", "gamma", "schedule", "arithmetic")
    assert {name: getattr(config, name) for name in names} == dict.fromkeys(names) | used


def test_the_twin_is_bp_on_the_same_network_device_and_batches() -> None:
    shared: dict[str, Any] = {"batch_size": 3, "updates": 8, "block": 4, "loaders": 2, "threads": 2}
    ours = timing(**shared)
    assert ours.twin() == timing(rule="BP", **shared)
    assert Trial(ours, 3).twin.twin == Trial(timing(rule="BP", **shared), 3)


def test_what_is_timed_is_identity() -> None:
    """The kind of device and its threads are identity too, because the result is a time."""
    base = timing()
    changes = [
        {"network": "alexnet"}, {"rule": "Fa-Z-IL"}, {"schedule": "literal"}, {"batch_size": 3},
        {"arithmetic": "textbook"}, {"data": "imagenet"}, {"device_kind": "cuda"}, {"threads": 2},
        {"warmup": 3}, {"updates": 40}, {"block": 2}, {"loaders": 2}, {"save_weights": True},
        {"device_kind": "cuda", "execution": "graph"}, {"rule": "BP"},
        {"rule": "BP", "execution": "compiled"},
    ]  # fmt: skip
    ids = {Trial(timing(**change), 1).trial_id for change in changes}
    assert len(ids | {Trial(base, 1).trial_id, Trial(base, 2).trial_id}) == len(changes) + 2


@pytest.mark.parametrize(
    ("changes", "trial_id"),
    [
        ({"rule": "BP"}, "e36bcb763ba1d96a"),
        ({"rule": "Z-IL"}, "a20a21a9ddcca7df"),
        ({"rule": "Fa-Z-IL", "schedule": "literal"}, "5d2f8044b3cdbf10"),
        ({"rule": "IL", "t": 5, "device_kind": "cuda"}, "05453e3f8bce5026"),
    ],
)
def test_plain_timings_have_the_ids_from_before_there_were_executions(
    changes: dict[str, Any], trial_id: str
) -> None:
    """Oracle: the ids that commit 32be588 gave."""
    assert Trial(timing(**changes), 1).trial_id == trial_id


def test_a_stored_plan_that_says_nothing_of_executions_is_plain_and_goes_on(
    tmp_path: Path,
) -> None:
    store, body = LocalStore(tmp_path), json.loads(WRITTEN.read_text())
    made = make_plan(
        TIMING,
        sweep(networks=["small-conv"], seeds=[1482555873], rules=["Z-IL"],
              schedules=["layerwise"], updates=2),
        "timing",
    )  # fmt: skip
    store.put_if_absent(made.keys.plan, seal({**body, "provenance": {}}))
    stored = read_plan(store, "timing", EXPERIMENTS)
    assert stored is not None
    assert [t.configuration.execution for t in stored.trials] == ["plain", "plain"]
    assert [t.trial_id for t in stored.trials] == [row["trial_id"] for row in body["trials"]]
    assert adopt_plan(store, made).shards == stored.shards == made.shards


def test_a_graph_is_for_a_gpu_and_only_bp_is_compiled() -> None:
    for rule in ("BP", "Z-IL"):
        with pytest.raises(InputError, match=r"needs a GPU.*give --gpus-per-worker 1, or leave"):
            timing(rule=rule, execution="graph")
    with pytest.raises(InputError, match="compiled is for BP alone, not for Z-IL"):
        timing(execution="compiled")


def test_every_execution_is_compared_with_plain_bp() -> None:
    plain = timing(rule="BP", device_kind="cuda")
    for rule, execution in (("BP", "compiled"), ("BP", "graph"), ("Z-IL", "graph")):
        ours = timing(rule=rule, execution=execution, device_kind="cuda")
        assert ours.twin() == plain != ours


def test_a_gpus_timing_does_not_depend_on_the_threads_of_its_host() -> None:
    assert timing(device_kind="cuda", threads=2) == timing(device_kind="cuda", threads=8)


def test_a_configuration_survives_the_plan() -> None:
    compiled = timing(rule="BP", execution="compiled")
    for config in (timing(), timing(rule="BP"), timing(rule="IL", t=3, loaders=1), compiled):
        assert from_json(TimingConfiguration, {**asdict(config), "trial_id": "x"}) == config


@pytest.mark.parametrize(
    ("given", "device"),
    [
        (Resources(None, 2, 0, "auto"), {"device_kind": "cpu", "threads": 2}),
        (Resources(None, 4, 1, "auto"), {"device_kind": "cuda", "threads": 4}),
        (Resources(None, 4, 1, "cpu"), {"device_kind": "cpu", "threads": 4}),
        (Resources(None, 0.5, 0.5, "cuda"), {"device_kind": "cuda", "threads": 1}),
    ],
)
def test_the_device_that_is_timed_follows_from_a_workers_resources(
    given: Resources, device: dict[str, Any]
) -> None:
    assert device_of(given) == device


def test_the_sweep_of_table_4() -> None:
    found = Counter(
        (config.network, config.rule, config.t, config.schedule)
        for config in (trial.configuration for trial in sweep().trials)
    )
    each = [
        ("BP", None, None), ("IL", 10, "layerwise"), ("IL", 20, "layerwise"),
        ("Z-IL", None, "layerwise"), ("Z-IL", None, "literal"),
        ("Fa-Z-IL", None, "layerwise"), ("Fa-Z-IL", None, "literal"),
    ]  # fmt: skip
    assert found == Counter((n, *method) for n in ("small-conv", "alexnet") for method in each)


def test_bp_is_always_there_and_il_takes_the_first_schedule() -> None:
    some = sweep(rules=["IL"], schedules=["literal"], t=[7]).trials
    assert {(t.configuration.rule, t.configuration.schedule) for t in some} == {
        ("BP", None),
        ("IL", "literal"),
    }


def test_executions_add_compiled_bp_and_graphs_of_all_rules() -> None:
    def declared(*executions: str) -> Counter[tuple[str, str]]:
        made = sweep(networks=["small-conv"], executions=executions, device_kind="cuda")
        found = (trial.configuration for trial in made.trials)
        return Counter((config.rule, config.execution) for config in found)

    rules = {"BP": 1, "IL": 2, "Z-IL": 2, "Fa-Z-IL": 2}
    plain = Counter({(rule, "plain"): count for rule, count in rules.items()})
    graph = Counter({(rule, "graph"): count for rule, count in rules.items()})
    bp, compiled = Counter([("BP", "plain")]), Counter([("BP", "compiled")])
    assert declared("plain") == plain
    assert declared("graph") == bp + graph
    assert declared("graph", "compiled", "plain") == plain + compiled + graph
    with pytest.raises(InputError, match=r"rules .*Z-IL: none of the declared cells"):
        declared("compiled")


def test_a_shard_begins_with_plain_bp_whatever_its_executions_are() -> None:
    everything = sweep(executions=["graph", "compiled"], device_kind="cuda")
    for shard in make_plan(TIMING, everything, "a").shards:
        first, *others = (trial.configuration for trial in shard.trials)
        assert (first.rule, first.execution) == ("BP", "plain")
        assert {config.execution for config in others} == {"compiled", "graph"}


def test_a_shard_is_one_network_and_seed_with_bp_and_the_cheap_rules_first() -> None:
    plan = make_plan(TIMING, sweep(seeds=[1, 2]), "a")
    kinds = [{(t.configuration.network, t.seed) for t in shard.trials} for shard in plan.shards]
    assert sorted(map(sorted, kinds)) == sorted(
        [(n, s)] for n in ("small-conv", "alexnet") for s in (1, 2)
    )
    assert [plan.shards[0].trials[0].configuration.network] == ["alexnet"]  # it takes longest
    for shard in plan.shards:
        rules = [trial.configuration.rule for trial in shard.trials]
        assert rules[0] == "BP"
        assert set(rules[1:3]) == {"Z-IL", "Fa-Z-IL"}
        assert rules[-1] == "IL" or shard.trials[-1].configuration.schedule == "literal"
        costs = [update_seconds(trial.configuration) for trial in shard.trials]
        assert costs[1:] == sorted(costs[1:])
    assert {plan.experiment.updates(shard.trials) for shard in plan.shards} == {7 * 22}


def test_a_plan_does_not_depend_on_the_order_of_its_declaration() -> None:
    again = sweep(networks=["alexnet", "small-conv"], t=[20, 10], schedules=["layerwise"])
    same = sweep(t=[10, 20], schedules=["layerwise"])
    assert make_plan(TIMING, again, "a").shards == make_plan(TIMING, same, "a").shards


def test_a_stored_plan_is_read_back_and_its_name_is_taken(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    plan = store_plan(store, make_plan(TIMING, sweep(), "a"), {})
    assert read_plan(store, "a", EXPERIMENTS) == plan
    assert plan.experiment.name == "timing"
    with pytest.raises(InputError, match="sweep a already holds another plan"):
        adopt_plan(store, make_plan(TIMING, sweep(seeds=[2]), "a"))
    planned(store, ablation(), "b")
    with pytest.raises(InputError, match="sweep b already holds another plan"):
        adopt_plan(store, make_plan(TIMING, sweep(), "b"))


def test_more_work_costs_more() -> None:
    """The cost table is rough, and only its ratios matter. So only the order is tested."""

    def cost(**values: Any) -> float:
        return update_seconds(timing(**{"network": "vgg11", **values}))

    assert cost(rule="BP") <= cost() < cost(schedule="literal")
    assert cost(schedule="literal") < cost(rule="Fa-Z-IL", schedule="literal")
    assert cost(rule="IL", t=10) < cost(rule="IL", t=20)
    assert cost() < cost(batch_size=4)
    assert cost(network="vgg19") > cost() > cost(network="alexnet")


def test_a_plan_says_what_would_be_timed_and_starts_nothing(tmp_path: Path) -> None:
    done = called("--store", str(tmp_path), "--plan", module="jobs.imagenet_timing")
    assert (done.code, done.stderr) == (0, "")
    for part in ("vgg11", "21 trials in 3 shards", "Nothing was started.", "synthetic"):
        assert part in done.stdout
    assert files(tmp_path) == []
