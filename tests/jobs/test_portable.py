"""`phases.c` gives the defined bits on other processors: `make test-portable`.

A cross compiler makes a program of it, and QEMU runs that. The oracle is the table of
`jobs.verify`, whose numbers that program computes: every function, product and training.
"""

import shutil
import sys
from collections.abc import Sequence

import pytest
from foreign import foreign

from jobs.verify.digests import checks, defined
from pcworker.kernels.fixed.library import Build

ZIG = (sys.executable, "-m", "ziglang", "cc", "-fno-sanitize=undefined")
MACHINES = {
    "aarch64 by GCC": (("aarch64-linux-gnu-gcc",), "qemu-aarch64"),
    "aarch64 by Clang": ((*ZIG, "-target", "aarch64-linux-musl"), "qemu-aarch64"),
    "riscv64 by Clang": ((*ZIG, "-target", "riscv64-linux-musl"), "qemu-riscv64"),
    "powerpc64le by Clang": ((*ZIG, "-target", "powerpc64le-linux-musl"), "qemu-ppc64le"),
}
"""The cross compilers, and the emulators of QEMU."""


TABLE = defined()


def has_the_digests(build: Build, names: Sequence[str]) -> None:
    """Compares the checks of the build's dtype that are computed by `phases.c`."""
    for check in checks(every=False):
        kind = check.name.partition(" ")[0]
        ours = check.dtype == build.dtype and kind not in ("stream", "reference")
        if ours and (not names or check.name in names):
            assert check.digest(build) == TABLE[check.title], check.title


@pytest.mark.portable
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("machine", MACHINES)
def test_another_processor_has_all_digests_of_the_table(machine: str, dtype: str) -> None:
    compiler, emulator = MACHINES[machine]
    for program in (compiler[0], emulator):
        if shutil.which(program) is None:
            pytest.skip(f"there is no {program} here; see tests/README.md")
    with foreign(compiler, [emulator], dtype) as build:
        made_by = build.code.made_by().decode()
        assert made_by.endswith("aarch64" if machine.startswith("aarch64") else "another processor")
        has_the_digests(build, [])


def test_the_program_has_these_digests_without_an_emulator() -> None:
    """Otherwise nobody would notice before the next `make test-portable` that it has none."""
    if shutil.which("cc") is None:
        pytest.skip("there is no cc here")
    with foreign(["cc"], [], "float32") as build:
        names = ["tanh", "relu'", "products with pixels of 0", "biases", "weights that move"]
        has_the_digests(build, [*names, "BP with sigmoid"])
