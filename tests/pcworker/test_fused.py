"""`fused.c` gives the bits that torch's operations give, or it is not used.

The oracles are the stack of torch operations, unbatched torch.autograd + torch.optim.SGD
(`reference`), and the per-sample NumPy implementation (`oracle`). Bits are compared with
torch.equal.
"""

import shutil
from collections.abc import Iterator
from itertools import accumulate, islice

import numpy as np
import oracle
import pytest
import reference
import torch

from jobs.mnist_ablation.sweep import mnist_ablation
from pcworker.data.batches import Chunk, chunk_sizes, weights_are_checked
from pcworker.data.randomness import initial_parameters
from pcworker.kernels.fused import library
from pcworker.kernels.fused.agreement import choose_fused, find_orders
from pcworker.kernels.fused.evaluation import FusedTest
from pcworker.kernels.fused.gathered import Gathered
from pcworker.kernels.fused.library import Orders
from pcworker.kernels.fused.trial import FusedTrial
from pcworker.kernels.kernel import Task
from pcworker.kernels.program import program
from pcworker.kernels.stack import Stack
from pcworker.kernels.torch_operations import fraction_wrong
from pcworker.store.tables import result_digest
from pcworker.training.engine import Engine
from pcworker.trials.configuration import configuration
from pcworker.trials.trial import Trial

SEED = 1482555873
NETWORKS = ["784-32-10", "784-32-32-10", "784-32-32-32-10"]
SHAPES = [*NETWORKS, "784-16-10", "784-64-48-10", "784-32-16-10"]

needs_kernel = pytest.mark.skipif(
    shutil.which("cc") is None or library.load() is None,
    reason="fused.c cannot be compiled here: no C compiler, or no AVX2 with FMA",
)


@pytest.fixture
def no_compiler(monkeypatch: pytest.MonkeyPatch, tmp_path) -> Iterator[None]:
    """The library is looked for as on a machine without a compiler."""
    monkeypatch.setenv("CC", str(tmp_path / "no-such-compiler"))
    library.attempt.cache_clear()
    yield
    library.attempt.cache_clear()


def orders_for(network: str, sizes: set[int]) -> Orders:
    found = find_orders(configuration(network=network, rule="BP"), sizes)
    if found is None:
        pytest.skip("this machine's library adds up in an order that fused.c does not know")
    return found


def grid(network: str) -> list[Trial]:
    """Figure 3's trials, and some that it leaves out: literal schedules, phi with noise."""
    sweep = mnist_ablation(
        networks=[network],
        seeds=[SEED],
        rules=("BP", "IL", "Z-IL", "Fa-Z-IL"),
        t=(None, 0, 1, 2, 3, 4, 16, 64),
        gamma=(0.01, 0.1, 0.5, 1.0, 5.0, 10.0),
        sigma=(0.0, 0.0001, 0.01, 1.0, 100.0),
        epochs=1,
    )
    more = [{"rule": "Z-IL", "schedule": "literal"}, {"rule": "Fa-Z-IL", "schedule": "layerwise"}]
    more += [{"rule": "IL", "t": 3, "gamma": 0.5, "schedule": "literal", "sigma": 0.1}]
    more += [{"rule": "Fa-Z-IL", "sigma": s, "horizon": 9, "t_d": 2} for s in (0.0, 0.1, 10.0)]
    extra = [Trial(configuration(network=network, **values), SEED) for values in more]
    return [*sweep.trials, *extra]


@needs_kernel
@pytest.mark.parametrize("network", SHAPES)
def test_every_trial_has_torchs_bits_in_everything_that_is_computed(
    engine: Engine, network: str
) -> None:
    """The trials make 101 updates of real digits. Our weights overflow where torch's do."""
    orders = orders_for(network, {20})
    trials = [t for t in grid(network) if t.configuration.rule != "BP"]
    calm = [t for t in trials if (t.configuration.gamma or 0) < 5 or t.configuration.last_step < 64]
    config = calm[0].configuration
    stack = Stack(calm, engine.data.device)
    ours = [FusedTrial(trial, orders) for trial in stack.trials]
    for chunk in islice(engine.data.chunks(config, SEED, 1, noisy=True), 2):
        stack.train({SEED: chunk}, config.alpha)
        gathered = Gathered(chunk, orders.block)
        for member in ours:
            member.train(gathered, config.alpha)
    for place, member in enumerate(ours):
        finite = stack.finite()[place]
        assert member.finite() == finite
        if not finite:
            continue
        pairs = zip(member.everything(20), stack.everything(place), strict=True)
        for mine, theirs in pairs:
            assert torch.equal(mine, theirs), member.trial.configuration
        assert torch.equal(member.squares, stack.squares[place])


@needs_kernel
@pytest.mark.parametrize("chunks", [4, pytest.param(None, marks=pytest.mark.long)])
@pytest.mark.parametrize("network", SHAPES)
@pytest.mark.parametrize("rule", ["BP", "Z-IL"])
def test_the_exact_cell_and_the_copy_of_bp_are_unbatched_autograd(
    engine: Engine, network: str, rule: str, chunks: int | None
) -> None:
    """The oracle is torch.autograd + torch.optim.SGD on nn.Linear. Four chunks are 301 updates, all
    of an epoch's are 3,000."""
    orders = orders_for(network, {20})
    trial = Trial(configuration(network=network, rule=rule), SEED)
    config = trial.configuration
    ours = FusedTrial(trial, orders)
    model = reference.network(initial_parameters(config, SEED), "sigmoid")
    optimiser = torch.optim.SGD(model.parameters(), lr=config.alpha)
    for chunk in islice(engine.data.chunks(config, SEED, 1, noisy=False), chunks):
        ours.train(Gathered(chunk, orders.block), config.alpha)
        for batch in chunk.batches():
            reference.train_step(model, optimiser, batch.inputs, batch.targets)
    for mine, theirs in zip(ours.parameters(), reference.parameters(model), strict=True):
        assert torch.equal(mine[0], theirs[0])


@needs_kernel
@pytest.mark.parametrize("network", NETWORKS)
def test_other_cells_agree_with_numpy(engine: Engine, network: str) -> None:
    """The oracle is `oracle`, in float64: after 6 updates in float32 the weights agree with it
    within 1e-4 of the largest weight."""
    orders = orders_for(network, {20})
    cells = [{"rule": "IL", "t": t, "gamma": 0.1} for t in (0, 1, 4, 16)]
    cells += [{"rule": "Z-IL", "gamma": 0.5}, {"rule": "Z-IL", "sigma": 0.1}]
    chunks = list(
        islice(engine.data.chunks(configuration(network=network, rule="BP"), SEED, 1, True), 2)
    )
    for values in cells:
        trial = Trial(configuration(network=network, **values), SEED)
        c = trial.configuration
        ours = FusedTrial(trial, orders)
        theta = [layer[0].double().numpy() for layer in initial_parameters(c, SEED)]
        for chunk in (chunks[0], Chunk(*(_first(part, 5) for part in chunks[1]))):
            ours.train(Gathered(chunk, orders.block), c.alpha)
            for batch in chunk.batches():
                hidden = range(c.l_max - 1, 0, -1)
                noise = {l: n.double().numpy() for l, n in zip(hidden, batch.noise, strict=True)}
                theta, _ = oracle.pc_update(
                    theta, None, batch.inputs.double().numpy(), batch.targets.double().numpy(),
                    f="sigmoid", alpha=c.alpha, rule=c.rule, gamma=c.gamma or 1.0, t=c.t,
                    t_d=c.t_d, horizon=c.horizon, sigma=c.sigma, noise=noise,
                )  # fmt: skip
        for layer, expected in zip(ours.parameters(), theta, strict=True):
            worst = np.abs(layer[0].numpy() - expected).max() / np.abs(expected).max()
            assert worst < 1e-4, (values, worst)


def _first(part: object, updates: int) -> object:
    return [p[:updates] for p in part] if isinstance(part, list) else part[:updates]


@needs_kernel
@pytest.mark.parametrize("seeds", [(SEED,), (SEED, 7)])
def test_a_shard_has_the_same_results_with_and_without_a_compiler(
    small_engine: Engine, seeds: tuple[int, ...], request: pytest.FixtureRequest
) -> None:
    """This compares weights, metrics and digests of twins, with trials that overflow and a smaller
    last batch."""
    common = {"network": "784-32-32-10", "epochs": 2, "batch_size": 24, "sums": "library"}
    cells = [
        *({"rule": "IL", "t": t, "gamma": g} for t in (1, 64) for g in (0.1, 10.0)),
        {"rule": "Z-IL"},
        {"rule": "Fa-Z-IL", "sigma": 0.1},
    ]
    trials = [Trial(configuration(**cell, **common), seed) for cell in cells for seed in seeds]
    trials.append(Trial(configuration(rule="BP", **common), SEED))
    with_it = small_engine.run(trials)
    if choose_fused(trials, Task(small_engine.data, trials).probe()) is None:
        pytest.skip("torch adds up in an order here that fused.c does not know")
    request.getfixturevalue("no_compiler")
    without = small_engine.run(trials)
    assert (with_it.kernel, without.kernel) == ("fused.c", "torch")
    assert (with_it.packing, without.packing) == ("stacked", "stacked")
    assert result_digest(with_it) == result_digest(without)


@needs_kernel
@pytest.mark.parametrize(
    "values",
    [
        {"dtype": "float64"},
        {"activation": "relu"},
        {"bias": True},
        {"arithmetic": "textbook"},
        {"network": "784-30-10"},
        {"network": "784-10"},
    ],
    ids=str,
)
def test_what_fused_c_cannot_do_torch_does(small_engine: Engine, values: dict) -> None:
    trial = Trial(configuration(**({"rule": "Z-IL", "sums": "library"} | values)), SEED)
    result = small_engine.run([trial])
    assert result.kernel == "torch"
    if "arithmetic" not in values:
        assert result.trials[0].epochs[-1].weight_maxabs_to_twin == 0.0


@needs_kernel
def test_other_bits_are_noticed(small_engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """With orders that are not the library's the trials' own updates differ, and torch is used."""
    trial = Trial(configuration(rule="IL", t=4, gamma=0.5), SEED)
    probe = Task(small_engine.data, [trial]).probe()
    found = orders_for("784-32-32-10", {20, 500})
    assert choose_fused([trial], probe) == found
    wrong = Orders(found.block // 2, found.by_layer)
    monkeypatch.setattr("pcworker.kernels.fused.agreement.find_orders", lambda config, sizes: wrong)
    assert choose_fused([trial], probe) is None


@needs_kernel
@pytest.mark.parametrize("network", NETWORKS)
def test_test_errors_are_torchs(engine: Engine, network: str) -> None:
    config = configuration(network=network, rule="BP")
    data = engine.data
    test = FusedTest(data, config, orders_for(network, {20, len(data.test_labels)}))
    for seed in range(5):
        parameters = initial_parameters(config, seed)
        assert test.error(parameters) == fraction_wrong(data, config, parameters)


def test_programs_are_the_schedules() -> None:
    """The expected programs are written by hand, for one hidden layer."""
    start = [("predict", 1), ("begin", 1), ("activate", 1), ("predict", 0), ("clamp", 0)]
    z_il = Trial(configuration(network="784-32-10", rule="Z-IL"), SEED)
    first = [("compare", 0), ("compare", 1), ("move", 1), ("learn", 0)]
    assert list(program(z_il)) == [*start, *first, ("compare", 1), ("learn", 1)]
    bp = Trial(configuration(network="784-32-10", rule="BP"), SEED)
    back = [("compare", 0), ("pull_back", 1), ("learn", 0), ("learn", 1)]
    assert list(program(bp)) == [*start, *back]


def test_chunks_are_the_epochs_batches_in_order(small_engine: Engine) -> None:
    assert chunk_sizes(1000, 20) == [(1, 20), (49, 20)]
    assert chunk_sizes(60_000, 20) == [(1, 20)] + [(100, 20)] * 29 + [(99, 20)]
    assert chunk_sizes(45, 20) == [(1, 20), (1, 20), (1, 5)]
    assert chunk_sizes(7, 20) == [(1, 7)]
    config = configuration(rule="BP", batch_size=24)
    sizes = [len(b.inputs) for b in small_engine.data.batches(config, SEED, 1, noisy=False)]
    assert sizes == [24] * 41 + [16]


@pytest.mark.parametrize("samples", [7, 45, 1000, 2020, 2030, 60_000])
def test_weights_are_checked_only_where_a_chunk_ends(samples: int) -> None:
    """Else a trial would be told that it made fewer updates than it did."""
    ends = set(accumulate(updates for updates, _ in chunk_sizes(samples, 20)))
    checked = {done for done in range(1, max(ends) + 1) if weights_are_checked(done)}
    assert checked <= ends
    assert {1, *range(101, samples // 20 + 1, 100)} <= checked


@needs_kernel
def test_batches_of_another_shape_are_refused(small_engine: Engine) -> None:
    """`fused.c` would read beyond them."""
    config = configuration(network="784-32-10", rule="Z-IL")
    ours = FusedTrial(Trial(config, SEED), Orders(784, (library.BY_FMA,)))
    good = next(small_engine.data.chunks(config, SEED, 1, noisy=True))
    ours.train(Gathered(good, 784), 0.001)
    for bad in (
        good._replace(inputs=good.inputs[:, :, :100]),
        good._replace(targets=good.targets[:, :, :9]),
        good._replace(noise=[good.noise[0][:, :, :16]]),
        Chunk(*(part.repeat(1, 2, 1) for part in good[:2]), []),
    ):
        with pytest.raises(ValueError, match="widths"):
            ours.train(Gathered(bad, 784), 0.001)
