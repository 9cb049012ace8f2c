"""Tests of the timing engine on a small network: the weights, the differences, the peak of memory.

Oracles: torch.autograd + torch.optim.SGD on the same minibatches (bit for bit), NumPy's norms of
the differences, and the bytes of the tensors that a rule needs.
"""

import copy
import hashlib
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import reference
import torch
from torch import nn

from jobs.imagenet_timing.configuration import (
    LEARNING_RATE,
    TimingConfiguration,
    timing_configuration,
)
from jobs.imagenet_timing.engine import TimingEngine, kept_parameters
from jobs.imagenet_timing.learners import GraphLearner, layer_distance, learner
from jobs.imagenet_timing.results import Comparison, TrialTiming
from jobs.imagenet_timing.tables import TIMING_TABLES, timing_rows
from pcworker.data.generators import draw_parameters
from pcworker.data.images import Minibatch, SyntheticImages, minibatches
from pcworker.errors import InputError, LackingError
from pcworker.networks.catalogue import facts
from pcworker.networks.named import build
from pcworker.store.in_turns import TurnsResult, turns_digest
from pcworker.store.parquet import table
from pcworker.store.result import Origin
from pcworker.trials.trial import Trial

SEED = 2283198659
METHODS = [
    {"rule": "BP"},
    {"rule": "Z-IL", "schedule": "layerwise"},
    {"rule": "Fa-Z-IL", "schedule": "layerwise"},
    {"rule": "Z-IL", "schedule": "literal"},
    {"rule": "Fa-Z-IL", "schedule": "literal"},
    {"rule": "IL", "t": 5},
]
WARMUP, UPDATES, BLOCK = 2, 12, 4


def configured(**changes: Any) -> TimingConfiguration:
    values = {"network": "small-conv", "warmup": WARMUP, "updates": UPDATES, "block": BLOCK}
    return timing_configuration(**{**values, **changes})


def trials(**changes: Any) -> list[Trial[TimingConfiguration]]:
    return [Trial(configured(**{**method, **changes}), SEED) for method in METHODS]


@pytest.fixture(scope="module")
def timing_engine(cpu: torch.device) -> TimingEngine:
    return TimingEngine(None, cpu)


@pytest.fixture(scope="module")
def result(timing_engine: TimingEngine) -> TurnsResult[TrialTiming]:
    return timing_engine.run(trials())


def of(
    result: TurnsResult[TrialTiming],
    rule: str,
    schedule: str | None = "layerwise",
    execution: str = "plain",
) -> TrialTiming:
    def asked(config: TimingConfiguration) -> bool:
        return (config.rule, config.schedule, config.execution) == (rule, schedule, execution)

    (found,) = (timed for timed in result.trials if asked(timed.trial.configuration))
    return found


def some_batches(cpu: torch.device, count: int) -> list[Minibatch]:
    images = SyntheticImages(facts("small-conv"), SEED)
    return list(islice(minibatches(images, SEED, 2, 10, cpu), count))


def distance(ours: nn.Sequential, theirs: nn.Sequential) -> float:
    mine, others = ([p.detach() for p in each.parameters()] for each in (ours, theirs))
    return layer_distance(mine, others)[0]


def backprop(cpu: torch.device) -> nn.Sequential:
    """The network after the same updates by `reference.train_step`."""
    network = build("small-conv", SEED)
    optimiser = torch.optim.SGD(network.parameters(), lr=LEARNING_RATE)
    for x, y in some_batches(cpu, WARMUP + UPDATES):
        reference.train_step(network, optimiser, x, y)
    return network


def shas(timed: TrialTiming) -> dict[tuple[int, str], str]:
    return {(p.layer, p.parameter): p.sha256 for p in timed.parameters}


def test_bp_and_both_schedules_of_z_il_learn_what_autograd_and_sgd_learn_bit_for_bit(
    result: TurnsResult[TrialTiming], cpu: torch.device
) -> None:
    network = backprop(cpu)
    modules = [m for m in network if isinstance(m, (nn.Conv2d, nn.Linear))]
    expected = {
        (layer, name): hashlib.sha256(parameter.detach().numpy().tobytes()).hexdigest()
        for layer, module in enumerate(reversed(modules), 1)
        for name, parameter in module.named_parameters()
    }
    assert len(expected) == 8
    assert build("small-conv", SEED)[0].weight.ne(network[0].weight).any()
    assert shas(of(result, "BP", None)) == expected
    for schedule in ("layerwise", "literal"):
        timed = of(result, "Z-IL", schedule)
        assert shas(timed) == expected
        assert timed.to_bp == Comparison(True, 0.0, 0.0)


def test_rules_that_are_not_bp_say_how_far_they_are_from_it(
    result: TurnsResult[TrialTiming],
) -> None:
    """Oracle: NumPy's norms. The final values are there because the network is small."""
    bp = of(result, "BP", None)
    for timed in (of(result, "IL"), of(result, "Fa-Z-IL", "literal")):
        assert not timed.to_bp.exact
        by_layer: dict[int, list[np.ndarray]] = {}
        for ours, theirs in zip(timed.parameters, bp.parameters, strict=True):
            assert ours.value is not None
            assert theirs.value is not None
            by_layer.setdefault(ours.layer, []).append(ours.value - theirs.value)
        layers = [np.concatenate(parts) for parts in by_layer.values()]
        norms = sum(map(np.linalg.norm, layers))
        assert timed.to_bp.weight_l2_to_bp == pytest.approx(norms, rel=1e-12)
        assert timed.to_bp.weight_maxabs_to_bp == max(np.abs(layer).max() for layer in layers) > 0


def test_a_distance_is_that_of_the_whole_layer_however_large_its_pieces_are() -> None:
    """Closed form: the layer has 5 million differences of 1/8, and one of 1."""
    ours = [torch.zeros(5_000_000), torch.ones(1)]
    theirs = [torch.full((5_000_000,), 0.125), torch.zeros(1)]
    assert layer_distance(ours, theirs) == ((5_000_000 / 64 + 1) ** 0.5, 1.0)


def test_every_turn_of_every_rule_has_its_time(result: TurnsResult[TrialTiming]) -> None:
    for timed in result.trials:
        assert len(timed.milliseconds) == UPDATES // BLOCK
        assert min(timed.milliseconds) > 0
        assert timed.loop_milliseconds is None
    assert result.updates == len(METHODS) * (WARMUP + UPDATES)


def test_peak_memory_holds_what_a_rule_cannot_do_without(result: TurnsResult[TrialTiming]) -> None:
    """Every rule needs the weights, the first activities and one layer's gradients. BP needs the
    gradients of all layers at once, and its backward pass needs the activities."""
    sizes = {(p.layer, p.parameter): 4 * int(np.prod(p.shape)) for p in result.trials[0].parameters}
    weights = sum(sizes.values())
    first_activities = 4 * 2 * 8 * 16 * 16  # 2 samples, before pooling
    for timed in result.trials:
        assert timed.peak_bytes >= weights + sizes[2, "weight"] + first_activities
    assert of(result, "BP", None).peak_bytes >= 2 * weights + first_activities
    literal = of(result, "Z-IL", "literal")
    assert literal.peak_bytes > of(result, "Z-IL").peak_bytes


def test_weights_do_not_depend_on_blocks_on_the_other_rules_or_on_loading(
    timing_engine: TimingEngine, result: TurnsResult[TrialTiming]
) -> None:
    alone = trials(block=1, loaders=1)[:2]
    again = timing_engine.run(alone)
    assert shas(again.trials[1]) == shas(of(result, "Z-IL"))
    for timed in again.trials:
        assert timed.loop_milliseconds is not None
        assert len(timed.loop_milliseconds) == UPDATES
        assert min(timed.loop_milliseconds) > 0
    assert again.updates == 2 * (WARMUP + 2 * UPDATES + 2)  # the 2 were loaded ahead


def test_a_digest_is_of_the_weights_and_not_of_the_times(timing_engine: TimingEngine) -> None:
    some = trials(updates=BLOCK)[:2]
    first, again = timing_engine.run(some), timing_engine.run(some)
    assert again.trials[0].milliseconds != first.trials[0].milliseconds
    assert turns_digest(again) == turns_digest(first)
    assert again.twins == first.twins
    other = timing_engine.run([replace(trial, seed=1) for trial in some])
    assert turns_digest(other) != turns_digest(first)


def test_weights_that_are_not_finite_any_more_are_a_result(timing_engine: TimingEngine) -> None:
    exploding = [
        replace(trial, configuration=replace(trial.configuration, alpha=1e30))
        for trial in trials(updates=4)
    ]
    rows = timing_rows(timing_engine.run(exploding), Origin(sweep="a", shard_id="s"))
    tables = {name: table(TIMING_TABLES.row_types[name], rows[name], {}) for name in rows}
    for row in tables["timings"].to_pylist():
        assert row["status"] == "nonfinite"
        assert row["ms_per_update_median"] > 0
        if row["exact"]:
            assert row["weight_l2_to_bp"] == 0.0
        else:
            assert row["weight_l2_to_bp"] is None


def test_progress_ends_at_one(timing_engine: TimingEngine) -> None:
    shares: list[float] = []
    timing_engine.run(trials(updates=8)[:2], report=shares.append)
    assert shares == [0.5, 1.0]


def test_values_of_large_parameters_are_kept_only_where_that_is_asked_for() -> None:
    network = nn.Sequential(nn.Linear(1000, 1000), nn.Linear(1000, 1001))
    for everything in (False, True):
        last, _, first, bias = kept_parameters(network, everything)
        assert (last.layer, last.shape, first.layer) == (1, (1001, 1000), 2)
        assert (last.value is not None) == everything
        assert first.value is not None
        assert bias.value is not None
        data = network[1].weight.detach().numpy()
        assert last.sha256 == hashlib.sha256(data.tobytes()).hexdigest()
        assert last.value is None or np.array_equal(last.value, data.ravel())


def test_a_plan_for_another_device_is_refused(timing_engine: TimingEngine) -> None:
    with pytest.raises(InputError, match=r"plan's device is cuda.*has cpu.*--device cpu"):
        timing_engine.run(trials(device_kind="cuda"))


@pytest.mark.long  # torch compiles for half a minute
def test_compiled_bp_learns_bp_and_is_compiled_before_its_first_update(cpu: torch.device) -> None:
    """Oracle: plain BP, within what float32 rounds. The sums have another order, so the bits are
    not compared."""
    start = nn.Sequential(nn.Flatten(), nn.Linear(768, 4), nn.Sigmoid(), nn.Linear(4, 10))
    draw_parameters(start, SEED)
    plain, compiled = copy.deepcopy(start), copy.deepcopy(start)
    batches = some_batches(cpu, 8)
    bp = learner(configured(rule="BP"), plain, batches[0])
    ours = learner(configured(rule="BP", execution="compiled"), compiled, batches[0])
    assert distance(compiled, start) == 0.0
    with torch.compiler.set_stance("fail_on_recompile"):
        for batch in batches:
            bp.update(batch)
            ours.update(batch)
    assert distance(compiled, plain) < 1e-4 * distance(plain, start)


def test_where_torch_compile_has_no_compiler_that_is_said(
    cpu: torch.device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torch._inductor import config as inductor

    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    [batch] = some_batches(cpu, 1)
    network = build("small-conv", SEED)
    no_compiler = r"torch.compile does not work here .*No working C\+\+ compiler.*; install .*leave"
    with (
        inductor.patch("cpp.cxx", ("/nowhere/c++",)),
        pytest.raises(LackingError, match=no_compiler),
    ):
        learner(configured(rule="BP", execution="compiled"), network, batch)


@pytest.mark.parametrize("method", METHODS, ids=lambda method: "-".join(map(str, method.values())))
def test_a_graphs_learner_copies_minibatches_into_memory_that_stays(
    cpu: torch.device, method: dict[str, Any]
) -> None:
    """In place of a CUDA graph a function repeats the update. Oracle: the plain learner's bits."""
    captures: list[int] = []

    def repeated(work: Any, parameters: Any, rest: Any) -> Any:
        captures.append(len(parameters))
        return work

    plain, network = build("small-conv", SEED), build("small-conv", SEED)
    batches = some_batches(cpu, 4)
    ours = learner(configured(**method), plain, batches[0])
    inner = learner(configured(**method), network, batches[0])
    graph = GraphLearner(inner, network, batches[0], repeated)
    for batch in batches:
        ours.update(batch)
        graph.update(batch)
    assert distance(network, plain) == 0.0
    assert captures == [8]
    graph.rest()
    graph.update(batches[0])
    assert captures == [8, 8]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_a_gpus_graphs_have_the_bits_of_plain_updates_and_compiled_bp_comes_close() -> None:
    """The loop with loading captures anew, while a thread pins minibatches."""
    graphs = [{**method, "execution": "graph"} for method in METHODS]
    methods = [*METHODS, {"rule": "BP", "execution": "compiled"}, *graphs]
    some = [Trial(configured(**each, device_kind="cuda", loaders=1), SEED) for each in methods]
    timed = TimingEngine(None, torch.device("cuda")).run(some)
    for method in METHODS:
        rule, schedule = method["rule"], configured(**method).schedule
        graph = of(timed, rule, schedule, "graph")
        assert shas(graph) == shas(of(timed, rule, schedule)), method
        # a replay takes no memory anew, so that of the capture must have been counted
        assert graph.peak_bytes > of(timed, rule, schedule).peak_bytes / 2
    apart = of(timed, "BP", None, "compiled").to_bp.weight_maxabs_to_bp
    assert apart is not None
    assert apart < 1e-6


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_a_gpu_gives_z_il_the_weights_of_its_own_backpropagation() -> None:
    timed = TimingEngine(None, torch.device("cuda")).run(trials(device_kind="cuda"))
    assert of(timed, "Z-IL").to_bp.exact
    assert of(timed, "Z-IL", "literal").to_bp.exact
