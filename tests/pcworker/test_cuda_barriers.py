"""The threads of `samples.cu` wait for each other wherever they must.

Oracle: ThreadSanitizer, and copies of the source that lack a barrier.
"""

from pathlib import Path

import pytest
from emulated_shard import on_the_cpu, on_the_emulator
from thread_sanitizer import require_thread_sanitizer, watched

from pcworker.kernels.cuda.launch import SAMPLES_CU

BARRIERS = ("__syncthreads();", "__syncwarp();")

PROGRAM = """
import os, sys
del os.environ["LD_PRELOAD"]  # the compiler does not need it
from pathlib import Path
from emulated_gpu import REAL_THREADS
from emulated_shard import on_the_cpu, on_the_emulator
print(on_the_emulator(flags=REAL_THREADS) == on_the_cpu())
print("without a barrier", file=sys.stderr, flush=True)
on_the_emulator(samples_cu=Path({copy!r}), flags=REAL_THREADS)
"""


def sites() -> list[int]:
    """Where `samples.cu` has a barrier in its own text.

    Without those of `finds_nonfinite` nothing is seen here, because all weights of a trial that
    does not stay finite become NaN at once. ThreadSanitizer sees them.
    """
    text = SAMPLES_CU.read_text()
    places = (at for barrier in BARRIERS for at in range(len(text)) if text.startswith(barrier, at))
    start, stop = text.index("INLINE int finds_nonfinite"), text.index("train_samples(const")
    return sorted(at for at in places if not start < at < stop)


def without(site: int, folder: Path) -> Path:
    """A copy of the source without one barrier."""
    text = SAMPLES_CU.read_text()
    end = text.index(";", site) + 1
    copy = folder / f"samples{site}.cu"
    copy.write_text(text[:site] + text[end:])
    return copy


def test_thread_sanitizer_sees_a_race_only_without_a_barrier(tmp_path: Path) -> None:
    require_thread_sanitizer()
    text = SAMPLES_CU.read_text()
    before_learning = text.index("__syncthreads();", text.index("learn_theta"))
    done = watched(PROGRAM.format(copy=str(without(before_learning, tmp_path))))
    whole, marker, less = done.stderr.partition("without a barrier\n")
    assert (done.stdout, whole) == ("True\n", "")
    assert marker
    assert "ThreadSanitizer: data race" in less


@pytest.mark.long
@pytest.mark.parametrize("site", sites())
def test_a_barrier_that_is_missing_is_noticed(site: int, tmp_path: Path) -> None:
    expected, copy = on_the_cpu(), without(site, tmp_path)
    noticed = False
    for order in ("ascending", "reversed", "shuffled"):
        try:
            noticed |= on_the_emulator(order, copy) != expected
        except RuntimeError:  # threads do not come to the same barrier
            noticed = True
    assert noticed
