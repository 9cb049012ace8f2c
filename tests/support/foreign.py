"""A build of `phases.c` for another processor, whose functions run in an emulator.

The program is `foreign.c`. Whatever takes a `Build` can take this one, such as the checks of
`jobs.verify`.
"""

import ctypes
import os
import struct
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from ctypes import sizeof
from pathlib import Path
from typing import Any

from pcworker.kernels.fixed.library import PHASES, Build, built

SOURCE = Path(__file__).with_name("foreign.c")
FLAGS = ("-O3", "-ffp-contract=off", "-static", "-lm")
FUNCTIONS = (
    *("apply", "apply_back", "multiply", "add_bias", "add_rows", "descend", "gather", "train"),
    "made_by",
)
"""In the order of the enumeration in `foreign.c`."""
NOWHERE = (0, -1)
"""The array that is NULL."""

Array = tuple[int, int]
"""The address of an array and its size in bytes."""


@contextmanager
def foreign(compiler: Sequence[str], emulator: Sequence[str], dtype: str) -> Iterator[Build]:
    """The build by a cross compiler, as long as its emulator runs."""
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder) / "program"
        flags = [*FLAGS, f"-I{PHASES.parent}", *(["-DDOUBLE"] if dtype == "float64" else [])]
        caches = {name: folder for name in ("ZIG_GLOBAL_CACHE_DIR", "ZIG_LOCAL_CACHE_DIR")}
        command = [*compiler, str(SOURCE), "-o", str(program), *flags]
        subprocess.run(command, env=os.environ | caches, check=True)
        with subprocess.Popen(
            [*emulator, str(program)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as process:
            ours = built(dtype)
            code: Any = ForeignCode(process, sizeof(ours.real))
            yield Build(code, dtype, ours.real, ours.trial)
            process.communicate()
        assert process.returncode == 0


class ForeignCode:
    """The functions of `phases.c`, with the arguments that they have in C."""

    def __init__(self, process: "subprocess.Popen[bytes]", real: int) -> None:
        """`real` is the size of a number."""
        self._process, self._real = process, real

    def made_by(self) -> bytes:
        text = ctypes.create_string_buffer(200)
        self._call("made_by", [], [(ctypes.addressof(text), len(text))])
        return text.value

    def apply(self, f: int, count: int, x: int, out: int) -> None:
        self._call("apply", [f, count], self._reals((x, count), (out, count)))

    def apply_back(self, f: int, count: int, g: int, fx: int, out: int) -> None:
        self._call("apply_back", [f, count], self._reals((g, count), (fx, count), (out, count)))

    def multiply(
        self, m: int, n: int, k: int, a: int, turned: int, b: int, zeros: int, out: int
    ) -> None:
        arrays = self._reals((a, m * k), (b, k * n), (out, m * n))
        self._call("multiply", [m, n, k, turned, zeros], arrays)

    def add_bias(self, rows: int, n: int, bias: int, out: int) -> None:
        self._call("add_bias", [rows, n], self._reals((bias, n), (out, rows * n)))

    def add_rows(self, rows: int, n: int, x: int, out: int) -> None:
        self._call("add_rows", [rows, n], self._reals((x, rows * n), (out, n)))

    def descend(self, count: int, rate: float, gradient: int, out: int) -> None:
        self._call("descend", [count, rate], self._reals((gradient, count), (out, count)))

    def gather(self, updates: int, batch: int, n: int, x: int, *lists: int) -> None:
        pixels = updates * batch * n
        counts = [updates * batch + 1, 2 * (pixels + 1), updates * n + 1, 2 * (pixels + 1), n]
        sizes = (4, self._real, 4, self._real, 4)
        arrays = [(p, c * size) for p, c, size in zip(lists, counts, sizes, strict=True)]
        self._call("gather", [updates, batch, n], [(x, pixels * self._real), *arrays])

    def train(self, trial: Any, batches: Any) -> None:
        """The arguments are made by `byref`."""
        t, b = trial._obj, batches._obj
        names = ("l_max", "instructions", "t_d", "f", "textbook", "gamma", "sigma", "rate")
        numbers = [*(getattr(t, name) for name in names), b.updates, b.batch]
        self._call("train", numbers, [*self._single(t, b), *self._by_layer(t, b)])

    def _single(self, t: Any, b: Any) -> list[Array]:
        """The arrays that do not belong to a layer."""
        places = (t.l_max + 1) * 4
        integers = ((t.width, places), (t.stride, places), (t.program, t.instructions * 8))
        samples, n, pixels = b.updates * b.batch, t.width[0], t.width[t.l_max]
        entries = ctypes.cast(b.sample_rows, ctypes.POINTER(ctypes.c_int32))[samples]
        return [
            *((ctypes.cast(field, ctypes.c_void_p).value or 0, size) for field, size in integers),
            (t.squares, b.batch * n * 8),
            (b.sample_rows, (samples + 1) * 4),
            (b.samples, entries * 2 * self._real),
            (b.pixel_rows, (b.updates * pixels + 1) * 4),
            (b.pixels, entries * 2 * self._real),
            (b.targets, samples * n * self._real),
        ]

    def _by_layer(self, t: Any, b: Any) -> Iterator[Array]:
        """The arrays of l = 0 .. l_max - 1, name by name."""
        real, last = self._real, t.l_max - 1
        for l in range(t.l_max):
            rows, row = (t.width[l], t.stride[l + 1]) if l < last else (t.width[l + 1], t.stride[l])
            yield t.theta[l], rows * row * real
        for l in range(t.l_max):
            there = l < last
            yield (t.transposed[l], t.width[l + 1] * t.stride[l] * real) if there else NOWHERE
        for l in range(t.l_max):
            yield (t.bias[l], t.stride[l] * real) if t.bias else NOWHERE
        for name in ("a", "d", "fx", "mu", "eps", "buffer", "phi", "quiet"):
            size = 4 if name in ("phi", "quiet") else real
            for l in range(t.l_max):
                yield getattr(t, name)[l], b.batch * t.stride[l] * size
        for l in range(t.l_max):
            there = l > 0 and bool(b.noise)
            yield (b.noise[l], b.updates * b.batch * t.width[l] * real) if there else NOWHERE

    def _reals(self, *arrays: tuple[int, int]) -> list[Array]:
        """Arrays of numbers, from their addresses and lengths."""
        return [(address, count * self._real) for address, count in arrays]

    def _call(self, name: str, numbers: Sequence[float], arrays: Sequence[Array]) -> None:
        said, heard = self._process.stdin, self._process.stdout
        assert said is not None and heard is not None
        said.write(struct.pack("<3i", FUNCTIONS.index(name), len(numbers), len(arrays)))
        said.write(struct.pack(f"<{len(numbers)}d", *numbers))
        for address, size in arrays:
            said.write(struct.pack("<q", size))
            said.write(ctypes.string_at(address, max(size, 0)))
        said.flush()
        for address, size in arrays:
            if size > 0:
                answer = heard.read(size)
                if len(answer) < size:
                    raise RuntimeError(f"{name}: the program has ended with {self._process.wait()}")
                ctypes.memmove(address, answer, size)
