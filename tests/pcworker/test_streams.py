"""Random numbers are those that the page of the arithmetic defines.

The oracle is `by_the_page`, which computes each by whole numbers and rounds every operation once.
"""

import by_the_page
import numpy as np
import pytest
import torch

from pcworker.data.batches import TARGETS, pixels
from pcworker.data.streams import Stream, _box_muller, order_of
from pcworker.kernels.fixed.stream import CompiledStream
from pcworker.trials.digests import network_digest

SEED = 1482555873


def test_numbers_are_split_mix_64() -> None:
    """The first three numbers of the key 1234567 are known from other implementations."""
    stream = Stream(0, "any")
    stream.key = 1234567
    known = [6457827717110365317, 3203168211198807973, 9817491932198370423]
    assert stream.integers(3).tolist() == known
    assert Stream(SEED, "order", 2).integers(50).tolist() == by_the_page.stream(
        SEED, "order", 2, 50
    )


@pytest.mark.parametrize("bound", [0.1, 1 / 3, 3.0])
def test_weights_are_the_pages(bound: float) -> None:
    expected = [by_the_page.uniform(z, bound) for z in by_the_page.stream(7, "weights", 0, 300)]
    assert Stream(7, "weights").uniform(300, bound).tolist() == expected


def test_the_order_of_an_epoch_is_the_pages() -> None:
    assert order_of(SEED, 3, 500).tolist() == by_the_page.order(SEED, 3, 500)


def test_normals_are_the_pages_however_many_are_drawn_at_once() -> None:
    numbers = by_the_page.stream(SEED, "noise", 1, 2000)
    expected = [n for z, w in zip(numbers[::2], numbers[1::2], strict=True)
                for n in by_the_page.normals(z, w)]  # fmt: skip
    source = Stream(SEED, "noise", 1)
    drawn = np.concatenate([source.normals(count) for count in (1, 2, 4, 93, 1900)])
    assert drawn.tolist() == expected


def test_normals_of_the_largest_and_smallest_numbers_are_the_pages() -> None:
    ends = [0, 2**11 - 1, 2**11, 2**62 - 1, 2**62, 2**63, 3 * 2**62, 2**64 - 1]
    pairs = [(z, w) for z in ends for w in ends]
    ours = _box_muller(np.array(pairs, dtype=np.uint64))
    theirs = np.array([by_the_page.normals(z, w) for z, w in pairs])
    assert np.array_equal(ours, theirs)


def test_normals_are_normal() -> None:
    """The moments of two million normals are those of the distribution, within 5 deviations."""
    drawn = Stream(1, "noise").normals(2_000_000)
    count = len(drawn)
    for power, moment, variance in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)):
        assert abs(np.mean(drawn**power) - moment) < 5 * (variance / count) ** 0.5, power
    beyond_4 = np.mean(np.abs(drawn) > 4)
    assert abs(beyond_4 - 6.334e-5) < 5 * (6.334e-5 / count) ** 0.5


@pytest.mark.parametrize("bits", [32, 64])
def test_pixels_and_targets_are_rounded_once(bits: int) -> None:
    dtype = torch.float32 if bits == 32 else torch.float64
    page = by_the_page.Arithmetic(bits)
    ours = pixels(torch.arange(256, dtype=torch.uint8), dtype)
    assert ours.tolist() == [page.div(float(v), 255.0) for v in range(256)]
    for target in (t for pair in TARGETS.values() for t in pair):
        assert float(torch.full((), target, dtype=dtype)) == page.number(target)


def test_a_digest_is_the_pages() -> None:
    source = np.random.default_rng(2)
    layers = [[source.normal(size=(3, 4)), source.normal(size=3)], [source.normal(size=(4, 5))]]
    for bits, dtype in ((32, np.float32), (64, np.float64)):
        network = [[p.astype(dtype) for p in layer] for layer in layers]
        as_lists = [(w.tolist(), b[0].tolist() if b else None) for w, *b in network]
        assert network_digest(network) == by_the_page.digest(as_lists, bits)


def test_compiled_normals_are_the_same_numbers() -> None:
    """Odd counts: a pair of normals is cut in two between two draws."""
    ours, theirs = CompiledStream(SEED, "noise", 3), Stream(SEED, "noise", 3)
    for count in (1, 2, 7, 10_001):
        assert ours.normals(count).tobytes() == theirs.normals(count).tobytes()


def test_samples_with_equal_numbers_stay_in_their_order(monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = np.array([3, 1, 3, 1, 2] * 40, np.uint64)
    monkeypatch.setattr(Stream, "integers", lambda stream, count: numbers[:count])
    order = order_of(SEED, 1, 200).tolist()
    assert order == sorted(range(200), key=lambda sample: numbers[sample])
