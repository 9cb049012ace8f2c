"""`jobs.verify` says whether a machine gives the defined bits.

The oracle is `by_the_page`, which is written from the page of the arithmetic alone. It is too slow
for whole checks, so samples of each kind of check are compared with it.
"""

import hashlib
import json
import shlex
import struct
from collections.abc import Iterator
from pathlib import Path

import by_the_page
import numpy as np
import pytest
import torch
from command_lines import called, the_line

from jobs.verify import digests
from jobs.verify.check import MADE_UP_SEED, Check, canonical
from jobs.verify.digests import build_for, checks, chosen_by, defined
from jobs.verify.functions import applied, applied_back, domain, inputs, slope_inputs
from jobs.verify.products import SHAPES, bias_of, descent_of, operands, product_of
from jobs.verify.randomness import EPOCHS, SAMPLES
from jobs.verify.trials import BATCH, made_up_minibatches, trained, varied
from pcworker.data.batches import Chunk
from pcworker.kernels.compiler import zig
from pcworker.kernels.fixed import library
from pcworker.kernels.fixed.library import built

BOTH = ("float32", "float64")
PAGES = {dtype: by_the_page.Arithmetic(int(dtype[-2:])) for dtype in BOTH}
MODULE = "jobs.verify"


@pytest.fixture
def fresh() -> Iterator[None]:
    """A process that has not compiled anything."""
    library.built.cache_clear()
    yield
    library.built.cache_clear()


def same(ours: np.ndarray, theirs: list) -> bool:
    """True if all bits are equal, but for the sign of a zero and NaNs."""
    expected = np.array(theirs, ours.dtype)
    return bool(np.array_equal(canonical(ours), canonical(expected)))


# ---- The samples ----


def some(count: int, whole: np.ndarray) -> np.ndarray:
    """Numbers from all over an array, and its last ten, without NaNs."""
    chosen = np.concatenate([whole[:: len(whole) // count], whole[-10:]])
    return np.ascontiguousarray(chosen[~np.isnan(chosen)])


@pytest.mark.parametrize("dtype", BOTH)
@pytest.mark.parametrize("name", ["sigmoid", "tanh", "relu", "exp"])
def test_f_is_the_pages(name: str, dtype: str) -> None:
    x = domain(name, some(300, inputs(dtype)))
    page = PAGES[dtype]
    expected = [page.exp(v) if name == "exp" else page.f(name, v) for v in x.tolist()]
    assert same(applied(built(dtype), name, x), expected)


@pytest.mark.parametrize("dtype", BOTH)
@pytest.mark.parametrize("name", ["sigmoid", "tanh", "relu"])
def test_its_derivative_is_the_pages(name: str, dtype: str) -> None:
    g, y = (some(300, part) for part in slope_inputs(dtype))
    expected = [PAGES[dtype].back(name, *both) for both in zip(g.tolist(), y.tolist(), strict=True)]
    assert same(applied_back(built(dtype), name, g, y), expected)


@pytest.mark.parametrize("dtype", BOTH)
@pytest.mark.parametrize("shape", [shape for shape in SHAPES if np.prod(shape) < 4000])
def test_products_and_changes_are_the_pages(shape: tuple[int, int, int], dtype: str) -> None:
    page, build = PAGES[dtype], built(dtype)
    for pixels in (False, True):
        ours = operands(shape, dtype, pixels=pixels)
        a, columns = ours.a.tolist(), ours.b.T.tolist()
        expected = [
            [
                page.chain((v, w) for v, w in zip(row, column, strict=True) if v or not pixels)
                for column in columns
            ]
            for row in a
        ]
        for turned in (False, True):
            found = product_of(build, ours, pixels=pixels, turned=turned)
            assert np.isfinite(found).all()
            assert same(found, expected)
    theta, bias = ours.theta.tolist(), ours.bias.tolist()
    added, total = bias_of(build, ours)
    assert same(added, [[page.add(v, b) for v, b in zip(row, bias, strict=True)] for row in theta])
    assert same(total, [page.total(column) for column in ours.theta.T.tolist()])
    rate = -page.number(0.1)
    expected = [page.fma(rate, g, b) for g, b in zip(theta[0], bias, strict=True)]
    assert same(descent_of(build, ours), expected)


def first_numbers(name: str) -> np.ndarray:
    [check] = chosen_by(name, checks(every=False))
    return next(iter(check.arrays(build_for(check))))


def test_the_streams_are_the_pages() -> None:
    z = by_the_page.stream(MADE_UP_SEED, "weights", 0, 200)
    assert first_numbers("stream of weights")[:200].tolist() == [
        by_the_page.uniform(number, 0.1) for number in z
    ]
    z = by_the_page.stream(MADE_UP_SEED, "noise", 1, 200)
    normals = [by_the_page.normals(*pair) for pair in zip(z[::2], z[1::2], strict=True)]
    assert first_numbers("stream of noise")[:200].tolist() == [n for both in normals for n in both]


def test_the_digest_of_the_orders_is_the_pages() -> None:
    """This one is quick enough to be computed by the page as a whole."""
    sha = hashlib.sha256()
    for epoch in range(1, EPOCHS + 1):
        sha.update(struct.pack(f"<{SAMPLES}q", *by_the_page.order(MADE_UP_SEED, epoch, SAMPLES)))
    assert sha.hexdigest() == defined()["stream of orders, int64"]


UPDATES = 2


@pytest.mark.parametrize(
    ("rule", "f", "dtype", "variant"),
    [
        ("BP", "sigmoid", "float32", 1),  # with biases
        ("IL", "tanh", "float64", 7),  # with biases, textbook, sigma = 0.1
        ("Z-IL", "relu", "float32", 1),  # sigma = 0.1
        ("Fa-Z-IL", "sigmoid", "float32", 0),
    ],
)
def test_the_trainings_begin_as_the_pages(rule: str, f: str, dtype: str, variant: int) -> None:
    config = varied(rule, f, dtype)[variant]
    whole = made_up_minibatches(config)
    chunk = Chunk(*(part[:UPDATES] for part in whole[:2]), [n[:UPDATES] for n in whole.noise])
    ours = trained(config, built(dtype), chunk)
    page = PAGES[dtype]
    oracle = by_the_page.Network(
        initial(config.widths, config.bias, page),
        bits=page.bits, f=f, rule=rule, t=config.t, t_d=config.t_d, horizon=config.horizon,
        gamma=config.gamma, sigma=config.sigma, arithmetic=config.arithmetic,
        layerwise=config.schedule == "layerwise",
    )  # fmt: skip
    images = by_the_page.stream(MADE_UP_SEED, "pixels", 0, UPDATES * BATCH * 784)
    digits = iter([page.div(float(max((z >> 54) - 768, 0)), 255.0) for z in images])
    labels = iter(by_the_page.stream(MADE_UP_SEED, "labels", 0, UPDATES * BATCH))
    hidden = list(zip(range(config.l_max - 1, 0, -1), config.widths[-2:0:-1], strict=True))
    count = UPDATES * BATCH * sum(width for _, width in hidden) if config.noisy else 0
    z = by_the_page.stream(MADE_UP_SEED, "noise", 1, count)
    pairs = (by_the_page.normals(*pair) for pair in zip(z[::2], z[1::2], strict=True))
    normals = iter([page.number(normal) for pair in pairs for normal in pair])
    for _ in range(UPDATES):
        inputs = [[next(digits) for _ in range(784)] for _ in range(BATCH)]
        targets = [[float(k == next_label) for k in range(10)] for next_label in
                   (next(labels) % 10 for _ in range(BATCH))]  # fmt: skip
        noise = {
            l: [[next(normals) for _ in range(width)] for _ in range(BATCH)]
            for l, width in (hidden if config.noisy else [])
        }
        oracle.update(inputs, targets, noise, config.alpha)
    for layer, theta, bias in zip(ours.parameters(), oracle.theta, oracle.bias, strict=True):
        assert same(layer[0].numpy(), theta)
        assert bias is None or same(layer[1].numpy(), bias)
    assert same(ours.squares.numpy(), oracle.squares)


def initial(widths: tuple[int, ...], biased: bool, page: by_the_page.Arithmetic) -> list:
    """The parameters by l, drawn for "linear"."""
    z = iter(by_the_page.stream(MADE_UP_SEED, "weights", 0, 30_000))
    made = []
    for l in range(len(widths) - 2, -1, -1):
        n, m = widths[l], widths[l + 1]
        bound = 1 / m**0.5
        theta = [[page.number(by_the_page.uniform(next(z), bound)) for _ in range(m)]
                 for _ in range(n)]  # fmt: skip
        drawn = range(n if biased else 0)
        bias = [page.number(by_the_page.uniform(next(z), bound)) for _ in drawn]
        made.append((theta, bias or None))
    return made[::-1]


def test_a_digest_is_of_little_endian_bytes_with_one_zero_and_one_nan() -> None:
    values = np.array([-0.0, 1.5, np.nan, -np.nan], np.float32)
    check = Check("any", "float32", lambda build: [values.astype(">f4"), values[:0]])
    expected = struct.pack("<ffII", 0.0, 1.5, 0x7F800001, 0x7F800001)
    assert check.digest(built("float32")) == hashlib.sha256(expected).hexdigest()


# ---- The table, and other builds ----


def test_the_table_has_every_check_and_the_reference_is_bp() -> None:
    table = defined()
    assert list(table) == [check.title for check in checks(every=True)]
    for title, digest in table.items():
        if title.startswith("reference"):
            assert digest == table[title.replace("reference", "BP")]


def test_no_training_of_the_table_is_without_bits() -> None:
    """A network that is not finite would be compared by one NaN."""
    for rule in ("IL", "Fa-Z-IL"):
        config = varied(rule, "relu", "float32")[-1]
        assert trained(config, built("float32"), made_up_minibatches(config)).finite()


BUILDS = {
    "-march=x86-64": ("sse2",),
    "-march=haswell": ("avx2", "fma", "bmi2"),
    "-march=skylake-avx512": ("avx512bw", "avx512vl"),
}
ZIG_BUILDS = {
    "-march=x86_64": BUILDS["-march=x86-64"],
    "-march=haswell": BUILDS["-march=haswell"],
    "-march=skylake_avx512": BUILDS["-march=skylake-avx512"],
}
"""Zig has names of its own for some processors."""
NEEDS = BUILDS | ZIG_BUILDS
A_FEW = ["tanh', float64", "products", "Z-IL with sigmoid, float32"]
"""The names of a check of each kind. All are compared by `make test-long`."""


@pytest.fixture
def by_zig(monkeypatch: pytest.MonkeyPatch, fresh: None) -> None:
    """The package ziglang compiles."""
    del fresh
    monkeypatch.setenv("CC", shlex.join(zig()))


@pytest.mark.parametrize("flag", BUILDS)
def test_every_build_has_the_digests_of_the_table(flag: str) -> None:
    has_the_digests(flag, A_FEW)


@pytest.mark.usefixtures("by_zig")
def test_ziglang_has_the_digests_of_the_table() -> None:
    has_the_digests("-march=native", A_FEW)


@pytest.mark.long
@pytest.mark.parametrize("flag", BUILDS)
def test_every_build_has_all_digests_of_the_table(flag: str) -> None:
    has_the_digests(flag, [""])


@pytest.mark.long
@pytest.mark.usefixtures("by_zig")
@pytest.mark.parametrize("flag", ZIG_BUILDS)
def test_every_build_by_ziglang_has_all_digests_of_the_table(flag: str) -> None:
    has_the_digests(flag, [""])


def has_the_digests(flag: str, names: list[str]) -> None:
    known = Path("/proc/cpuinfo").read_text().split()
    if not set(NEEDS.get(flag, ())) <= set(known):
        pytest.skip(f"this processor cannot run a build with {flag}")
    for check in (check for name in names for check in chosen_by(name, checks(every=False))):
        build = built("float64" if check.dtype == "float64" else "float32", (flag,))
        assert check.digest(build) == defined()[check.title], check.title


# ---- The command ----


def test_the_command_says_that_this_machine_has_the_defined_bits() -> None:
    done = called(module=MODULE)
    assert (done.code, done.stderr) == (0, "")
    first, *_ = done.stdout.splitlines()
    assert "phases.c was compiled by" in first
    lines = [line.split("│") for line in done.stdout.splitlines()]
    rows = {cells[1].strip(): cells[2].strip() for cells in lines if len(cells) == 4}
    assert rows == {check.title: "ok" for check in checks(every=False)}
    assert done.stdout.splitlines()[-1] == f"All {len(rows)} checks have the defined bits."


def test_a_difference_is_named_and_ends_with_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    altered = tmp_path / "digests.json"
    right = defined()["biases, float64"]
    altered.write_text(json.dumps({**defined(), "biases, float64": "0123456789abcdef" * 4}))
    monkeypatch.setattr(digests, "DIGESTS", altered)
    done = called("--only", "biases", module=MODULE)
    assert done.code == 1
    [wrong] = [line for line in done.stdout.splitlines() if "differs" in line]
    assert "biases, float64" in wrong
    assert f"expected 0123456789abcdef, found {right[:16]}" in wrong
    assert "1 of 2 checks do not have the defined bits" in done.stdout


@pytest.mark.usefixtures("fresh")
def test_without_a_compiler_it_ends_with_2_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", "no-such-compiler")
    line = the_line(called(module=MODULE))
    assert "CC=no-such-compiler does not compile phases.c (No such file or directory)" in line


def test_an_unknown_check_is_refused_with_the_names_of_all() -> None:
    line = the_line(called("--only", "cosine", module=MODULE))
    assert "'cosine'" in line
    assert "stream of noise, float64" in line


def test_new_digests_are_printed_as_a_table() -> None:
    done = called("--print-digests", "--only", "relu'", module=MODULE)
    assert done.code == 0
    table = json.loads(done.stdout)
    assert table == {title: defined()[title] for title in ("relu', float32", "relu', float64")}
    assert torch.get_num_threads() == 1
