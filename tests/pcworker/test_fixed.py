"""`phases.c`: Z-IL is backpropagation bit for bit, and no build, thread or setting changes a bit.

The oracle of exactness is `FixedBackprop`, a graph of torch.autograd whose products and f are those
of `phases.c`. That these are what their page defines is shown in test_by_the_page.py. Here they are
also compared with stock torch, and f with the standard library's decimal numbers.
"""

import ctypes
import math
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from decimal import Decimal, localcontext
from itertools import islice, product
from pathlib import Path

import numpy as np
import pytest
import reference
import torch
from small_sweep import digest_of_a_small_sweep
from torch import nn

from pcworker.data.batches import Chunk
from pcworker.data.randomness import initial_parameters
from pcworker.kernels.compiler import DEBUG_BUILD, zig
from pcworker.kernels.fixed.evaluation import FixedTest, is_right
from pcworker.kernels.fixed.gathered import listed
from pcworker.kernels.fixed.kernel import FixedKernel
from pcworker.kernels.fixed.library import F_CODES, PHASES, built
from pcworker.kernels.fixed.reference import Descent, FixedBackprop
from pcworker.kernels.fixed.trial import FixedTrial
from pcworker.kernels.kernel import Task
from pcworker.kernels.program import Program, program
from pcworker.training.engine import Engine
from pcworker.trials import measures
from pcworker.trials.configuration import configuration
from pcworker.trials.digests import network_digest
from pcworker.trials.trial import Trial

SEED = 1482555873
NETWORKS = {1: "784-32-10", 2: "784-32-32-10", 3: "784-32-32-32-10"}
EVERY_F = ("sigmoid", "tanh", "relu")
BOTH = ("float32", "float64")


def z_il(**values: object) -> Trial:
    return Trial(configuration(**({"rule": "Z-IL", "init": "linear"} | values)), SEED)


def train(
    engine: Engine, trial: Trial, chunks: int, only: Program | None = None
) -> tuple[FixedTrial, FixedTrial, FixedBackprop]:
    """Trains a trial, a copy of its twin and the reference on the same digits."""
    config = trial.configuration
    ours, twin = FixedTrial(trial, only=only), FixedTrial(trial.twin)
    autograd = FixedBackprop(trial.twin)
    for chunk in islice(engine.data.chunks(config, SEED, 1, config.noisy), chunks):
        lists = listed(chunk, ours.build)
        rate = config.rate(config.batch_size)
        ours.train(lists, rate)
        twin.train(lists, rate)
        autograd.train(chunk, rate)
    return ours, twin, autograd


def equal(ours: FixedTrial, theirs: FixedBackprop) -> bool:
    return reference.equal(ours.parameters(), theirs.parameters())


@pytest.mark.parametrize(
    ("hidden", "dtype", "activation", "bias"),
    list(product((1, 2, 3), BOTH, EVERY_F, (False, True))),
)
def test_z_il_and_the_copy_of_bp_are_autograd(
    engine: Engine, hidden: int, dtype: str, activation: str, bias: bool
) -> None:
    """After 101 updates of real digits."""
    network = NETWORKS[hidden]
    trial = z_il(network=network, dtype=dtype, activation=activation, bias=bias)
    ours, twin, autograd = train(engine, trial, 2)
    assert autograd.finite()
    assert not reference.equal(ours.parameters(), initial_parameters(trial.configuration, SEED))
    assert equal(ours, autograd)
    assert equal(twin, autograd)
    assert torch.equal(ours.squares, autograd.squares)


@pytest.mark.parametrize("dtype", BOTH)
@pytest.mark.parametrize("network", ["784-30-17-10", "784-1-10", "784-10", "784-65-10"])
def test_any_shape_is_exact(engine: Engine, network: str, dtype: str) -> None:
    trial = z_il(network=network, dtype=dtype, batch_size=7, bias=True, schedule="literal")
    ours, twin, autograd = train(engine, trial, 2)
    assert equal(ours, autograd)
    assert equal(twin, autograd)


@pytest.mark.long
@pytest.mark.parametrize("hidden", [1, 2, 3])
def test_z_il_is_autograd_after_an_epoch(engine: Engine, hidden: int) -> None:
    ours, twin, autograd = train(engine, z_il(network=NETWORKS[hidden]), 10_000)
    assert equal(ours, autograd)
    assert equal(twin, autograd)


def broken(trial: Trial, how: str) -> Program:
    """The trial's program, with a condition of exactness broken."""
    operations = list(program(trial))
    learns = [place for place, (name, _) in enumerate(operations) if name == "learn"]
    if how == "one step late":  # theta^1 learns one step later, from the errors of that step
        operations.insert(learns[1], operations.pop(learns[0]))
    if how == "new weights in Eq. 7":
        move = next(place for place, (name, _) in enumerate(operations) if name == "move")
        operations.insert(move, operations.pop(learns[0]))
    return tuple(operations)


@pytest.mark.parametrize("hidden", [2, 3])
@pytest.mark.parametrize("how", ["one step late", "new weights in Eq. 7", "gamma 1.001"])
def test_each_broken_condition_is_noticed_at_once(engine: Engine, hidden: int, how: str) -> None:
    """The equality above would show nothing if these were equal too."""
    gamma = 1.001 if how.startswith("gamma") else 1.0
    trial = z_il(network=NETWORKS[hidden], schedule="literal", gamma=gamma)
    ours, twin, autograd = train(engine, trial, 2, only=broken(trial, how))
    assert equal(twin, autograd)
    assert not equal(ours, autograd)


@pytest.mark.parametrize(("activation", "bias"), list(product(EVERY_F, (False, True))))
def test_the_reference_is_stock_torch_but_for_the_order_of_sums(
    engine: Engine, activation: str, bias: bool
) -> None:
    """The oracle is torch.nn.Linear, torch's f, and torch.optim.SGD, in float64."""
    config = z_il(dtype="float64", activation=activation, bias=bias).twin.configuration
    ours = FixedBackprop(Trial(config, SEED))
    stock = reference.network(initial_parameters(config, SEED), activation)
    optimiser = torch.optim.SGD(stock.parameters(), lr=config.alpha)
    for batch in islice(engine.data.batches(config, SEED, 1, noisy=False), 50):
        ours.update(batch, config.alpha)
        reference.train_step(stock, optimiser, batch.inputs, batch.targets)
    for layer, theirs in zip(ours.parameters(), reference.parameters(stock), strict=True):
        for a, b in zip(layer, theirs, strict=True):
            assert (a - b).abs().max() < 1e-13


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_optimiser_is_sgd_where_that_is_one_fma(dtype: torch.dtype) -> None:
    if torch.backends.cpu.get_cpu_capability() not in ("AVX2", "AVX512"):
        pytest.skip("torch.optim.SGD rounds twice on this processor")
    source = torch.Generator().manual_seed(1)
    start, gradient = (torch.randn(64, 128, generator=source, dtype=dtype) for _ in range(2))
    both = [nn.Parameter(start.clone()) for _ in range(2)]
    for theta in both:
        theta.grad = gradient.clone()
    Descent([both[0]], 0.1, built(str(dtype).removeprefix("torch.")).code).step()
    torch.optim.SGD([both[1]], lr=0.1).step()
    assert torch.equal(*both)
    assert not torch.equal(both[0], start)


# ---- f ----

ULPS = {"exp": 1.0, "sigmoid": 2.5, "tanh": 3.0}
"""The largest errors, in units of the last place, as README.md of the kernel states them."""


def applied(name: str, x: np.ndarray) -> np.ndarray:
    out = np.empty_like(x)
    build = built(str(x.dtype))
    build.code.apply(F_CODES.index(name), len(x), x.ctypes.data, out.ctypes.data)
    return out


def arguments(name: str, count: int, dtype: type) -> np.ndarray:
    """Numbers where f is neither 0 nor 1, and numbers near 0, positive where exp allows it."""
    source = np.random.default_rng(4)
    far = 800 if dtype is np.float64 else 110
    x = np.concatenate(
        [
            source.uniform(-far, far, count),
            source.uniform(-20, 20, count),
            source.choice([-1.0, 1.0], count) * 10.0 ** source.uniform(-30, 0, count),
        ]
    ).astype(dtype)
    return -np.abs(x) if name == "exp" else x


def worst(ours: np.ndarray, exact: np.ndarray, last_place: np.ndarray) -> float:
    return float(np.max(np.abs(ours - exact) / last_place))


@pytest.mark.parametrize("name", ULPS)
def test_the_error_of_f_in_float32(name: str) -> None:
    """The oracle is NumPy's float64, whose own error is a 2^29th of float32's last place."""
    x = arguments(name, 500_000, np.float32)
    wide = x.astype(np.float64)
    e = np.exp(-np.abs(wide))
    sigmoid = np.where(wide < 0, e, 1) / (1 + e)
    exact = {"exp": e, "sigmoid": sigmoid, "tanh": np.tanh(wide)}[name]
    last_place = np.spacing(np.abs(exact).astype(np.float32)).astype(np.float64)
    assert 0.5 < worst(applied(name, x).astype(np.float64), exact, last_place) <= ULPS[name]


@pytest.mark.parametrize("name", ULPS)
def test_the_error_of_f_in_float64(name: str) -> None:
    """The oracle is the standard library's decimal numbers, with 60 digits."""
    x = arguments(name, 400, np.float64)
    with localcontext() as context:
        context.prec = 60
        exact = [_exact(name, Decimal(value)) for value in x.tolist()]
        pairs = zip(exact, applied(name, x).tolist(), strict=True)
        errors = [
            abs(Decimal(ours) - e) / Decimal(float(np.spacing(abs(float(e))))) for e, ours in pairs
        ]
    assert 0.4 < max(errors) <= ULPS[name]


def _exact(name: str, x: Decimal) -> Decimal:
    e = (-abs(x)).exp()
    if name == "sigmoid":
        return (e if x < 0 else 1) / (1 + e)
    squared = e * e
    tanh = (1 - squared) / (1 + squared)
    return e if name == "exp" else tanh.copy_sign(x)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_f_of_infinities_nan_and_zero(dtype: type) -> None:
    x = np.array([-np.inf, 0, np.inf, np.nan], dtype)
    assert np.array_equal(applied("sigmoid", x), [0, 0.5, 1, np.nan], equal_nan=True)
    assert np.array_equal(applied("tanh", x), [-1, 0, 1, np.nan], equal_nan=True)
    assert np.array_equal(applied("relu", x), [0, 0, np.inf, np.nan], equal_nan=True)


def test_the_first_of_the_largest_outputs_counts_and_nan_is_wrong() -> None:
    outputs = torch.tensor([[1.0, 3, 3], [1, 3, 3], [3, 1, float("nan")], [float("nan"), 1, 0]])
    assert is_right(outputs, torch.tensor([1, 2, 0, 0])).tolist() == [True, False, False, False]


# ---- Builds, threads, settings of the processor ----


def processor_has(*flags: str) -> bool:
    known = Path("/proc/cpuinfo").read_text().split()
    return all(flag in known for flag in flags)


OTHER_BUILDS = {
    "plain x86-64": ("-march=x86-64",),
    "AVX2": ("-march=haswell",),
    "AVX-512": ("-march=skylake-avx512",),
    "5 workers in reverse": ("-march=native", "-O1", "-DWORKERS=5", "-DTURN=4"),
    "1009 workers shuffled": ("-march=native", "-O1", "-DWORKERS=1009", "-DTURN=400"),
}
NEEDS = {
    "plain x86-64": ("sse2",),
    "AVX2": ("avx2", "fma", "bmi2"),
    "AVX-512": ("avx512bw", "avx512vl"),
}


@pytest.mark.parametrize("name", OTHER_BUILDS)
def test_every_build_gives_the_same_digests(name: str) -> None:
    if not processor_has(*NEEDS.get(name, ())):
        pytest.skip(f"this processor cannot run the build for {name}")
    assert digest_of_a_small_sweep(OTHER_BUILDS[name]) == digest_of_a_small_sweep()


@pytest.fixture
def fresh() -> Iterator[None]:
    """A process that has not compiled anything."""
    built.cache_clear()
    yield
    built.cache_clear()


@pytest.mark.parametrize("compiler", ["cc", "ziglang"])
@pytest.mark.usefixtures("fresh")
def test_a_debug_build_gives_the_same_digests(
    compiler: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = digest_of_a_small_sweep()
    built.cache_clear()
    monkeypatch.setenv(DEBUG_BUILD, "1")
    if compiler == "ziglang":
        monkeypatch.setenv("CC", shlex.join(zig()))
    assert digest_of_a_small_sweep() == expected


def test_fma_in_software_gives_the_same_digests() -> None:
    """The C library computes fma by integers where it believes that the processor has none."""
    code = "from small_sweep import digest_of_a_small_sweep as d; print(d(('-march=x86-64',)))"
    path = f"{Path(__file__).parents[1] / 'support'}:{Path(__file__).parents[2]}"
    environment = {
        **os.environ,
        "PYTHONPATH": path,
        "GLIBC_TUNABLES": "glibc.cpu.hwcaps=-FMA,-FMA4",
    }
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == digest_of_a_small_sweep()


def test_flushing_of_subnormal_numbers_changes_no_bit() -> None:
    """Nor does training change whether its thread flushes them."""
    if not torch.set_flush_denormal(False):
        pytest.skip("this processor always keeps subnormal numbers")
    expected = digest_of_a_small_sweep(shrink=1e-38)
    assert expected != digest_of_a_small_sweep()
    assert digest_of_a_small_sweep(shrink=1e-38, flush=True) == expected


def test_the_rounding_mode_changes_no_bit_and_comes_back() -> None:
    expected = digest_of_a_small_sweep()
    library, upward = ctypes.CDLL("libm.so.6"), 0x800
    build, ours = built("float32"), np.array([1.0, 3.0], np.float32)
    library.fesetround(upward)
    try:
        build.code.descend(2, 0.1, ours.ctypes.data, ours.ctypes.data)
        found = library.fegetround()
    finally:
        library.fesetround(0)
    assert found == upward
    theirs = np.array([1.0, 3.0], np.float32)
    build.code.descend(2, 0.1, theirs.ctypes.data, theirs.ctypes.data)
    assert ours.tobytes() == theirs.tobytes()
    assert digest_of_a_small_sweep() == expected


def test_chunks_do_not_change_a_bit(small_engine: Engine) -> None:
    trial = z_il(rule="IL", t=3, gamma=0.5, sigma=0.1, bias=True)
    whole, single = FixedTrial(trial), FixedTrial(trial)
    for chunk in small_engine.data.chunks(trial.configuration, SEED, 1, noisy=True):
        whole.train(listed(chunk, whole.build), 0.001)
        for place in range(len(chunk.inputs)):
            some = slice(place, place + 1)
            one = Chunk(chunk.inputs[some], chunk.targets[some], [n[some] for n in chunk.noise])
            single.train(listed(one, single.build), 0.001)
    assert reference.equal(whole.parameters(), single.parameters())


def test_batches_of_another_shape_are_refused(small_engine: Engine) -> None:
    """`phases.c` would read beyond them."""
    ours = FixedTrial(z_il(network="784-32-10"))
    good = next(small_engine.data.chunks(ours.trial.configuration, SEED, 1, noisy=True))
    for bad in (
        good._replace(inputs=good.inputs[:, :, :100]),
        good._replace(targets=good.targets[:, :, :9]),
        good._replace(noise=[good.noise[0][:, :, :16]]),
        Chunk(*(part.repeat(1, 2, 1) for part in good[:2]), []),
    ):
        with pytest.raises(ValueError, match="widths"):
            ours.train(listed(bad, ours.build), 0.001)


# ---- A shard ----


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_a_shard_trains_by_it_and_has_the_references_weights_and_metrics_after_every_epoch(
    small_engine: Engine, threads: int
) -> None:
    torch.set_num_threads(threads)
    common = {"network": "784-30-17-10", "batch_size": 24, "epochs": 2, "bias": True}
    exact = z_il(**common)
    others = [z_il(rule="IL", t=t, gamma=g, **common) for t, g in ((4, 0.1), (64, 10.0))]
    result = small_engine.run([exact, *others, exact.twin])
    assert result.kernel == "phases.c"
    by_trial = {each.trial: each for each in result.trials}
    assert by_trial[others[1]].status == "nonfinite"
    assert by_trial[others[0]].epochs[-1].weight_l2_to_twin > 0
    expected = FixedBackprop(exact.twin)
    test = FixedTest(small_engine.data, exact.configuration)
    for epoch in (1, 2):
        expected.squares.zero_()
        for chunk in small_engine.data.chunks(exact.configuration, SEED, epoch, noisy=False):
            expected.train(chunk, 0.001)
        weights = measures.to_numpy(expected.parameters())
        assert result.twins[exact.twin.trial_id][epoch - 1] == network_digest(weights)
        for trial in (exact, exact.twin):
            metrics = by_trial[trial].epochs[epoch - 1]
            assert metrics.train_energy == measures.energy(expected.squares, 1000)
            assert metrics.test_error == metrics.twin_test_error
            assert metrics.test_error == test.error(expected.parameters())
            assert metrics.weight_maxabs_to_twin == 0.0
    assert network_digest(by_trial[exact].parameters) == network_digest(weights)


@pytest.mark.parametrize("options", [(), ("-DDOUBLE",)], ids=["float32", "float64"])
def test_the_same_source_compiles_for_a_gpu(options: tuple[str, ...]) -> None:
    """NVRTC, which comes with torch's CUDA builds, makes machine code of it without a GPU."""
    found = sorted(Path(torch.__file__).parents[1].glob("nvidia/*/lib/libnvrtc.so.*"))
    if not found:
        pytest.skip("no NVRTC here: this build of torch is not for CUDA")
    nvrtc, made, size = ctypes.CDLL(str(found[0])), ctypes.c_void_p(), ctypes.c_size_t()
    source = PHASES.read_bytes()
    assert nvrtc.nvrtcCreateProgram(ctypes.byref(made), source, b"phases.cu", 0, None, None) == 0
    flags = [b"--gpu-architecture=sm_90", b"--fmad=false", *(o.encode() for o in options)]
    status = nvrtc.nvrtcCompileProgram(made, len(flags), (ctypes.c_char_p * len(flags))(*flags))
    nvrtc.nvrtcGetProgramLogSize(made, ctypes.byref(size))
    said = ctypes.create_string_buffer(size.value)
    nvrtc.nvrtcGetProgramLog(made, said)
    assert (status, said.value.decode()) == (0, "")
    assert nvrtc.nvrtcGetCUBINSize(made, ctypes.byref(size)) == 0
    assert size.value > 0


@pytest.mark.parametrize(
    ("dtype", "sigma"),
    [
        ("float32", 0.1),
        pytest.param("float32", 0.0, marks=pytest.mark.long),
        pytest.param("float64", 0.0, marks=pytest.mark.long),
        pytest.param("float64", 0.1, marks=pytest.mark.long),
    ],
)
def test_the_kernels_minibatches_are_those_of_the_data_set(
    engine: Engine, dtype: str, sigma: float
) -> None:
    """Oracle: the minibatches whose pixels, targets and normals torch and NumPy make, listed."""
    trial = z_il(dtype=dtype, sigma=sigma, batch_size=7)
    config, kernel = trial.configuration, FixedKernel(Task(engine.data, [trial]))
    chunks = list(engine.data.chunks(config, SEED, 2, config.noisy))
    made = [each.lists[SEED] for each in kernel.minibatches(2)]
    assert len(made) == len(chunks)
    for ours, chunk in zip(made, chunks, strict=True):
        theirs = listed(chunk, built(dtype))
        assert ours.shape == theirs.shape
        entries = ours.arrays[0][-1]
        for mine, other in zip(ours.arrays, theirs.arrays, strict=True):
            assert mine[:entries].tolist() == other[: len(mine)][:entries].tolist()
        for mine, other in zip(ours.numbers, theirs.numbers, strict=True):
            assert torch.equal(mine, other)


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
def test_a_weight_that_is_not_finite_is_seen(value: float) -> None:
    """The sum of finite weights may be infinite, and they are finite all the same."""
    weights = torch.full((3, 4), 3e38)
    assert measures.are_finite([[weights]])
    weights[1, 2] = value
    assert not measures.are_finite([[torch.zeros(2)], [weights]])
