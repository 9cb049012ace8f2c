"""The machine code of `phases.c` for GPUs has the operations of its source: no more, none fused.

The oracle is the source: the numbers in ELEMENT are counted in it by hand. No GPU is needed.
"""

import re
from dataclasses import dataclass
from functools import cached_property
from itertools import product

import machine_code
import pytest
from machine_code import Instruction, counts, instructions, is_compilers_own, resources

from pcworker.kernels.cuda.nvrtc import CudaError, cubin
from pcworker.kernels.fixed.library import PHASES

ARCHES = ("sm_80", "sm_86", "sm_90", "sm_100", "sm_120")
FAST = [*((arch, "float32") for arch in ARCHES), ("sm_90", "float64")]
EVERY = product(ARCHES, ("float32", "float64"))
LONG = [pytest.param(build, marks=pytest.mark.long) for build in EVERY if build not in FAST]

ELEMENT = {
    "activate": (17, 6, 14),  # sigmoid and tanh: 8 fused in reduce(x), and one in tanh
    "move": (0, 7, 8),
    "pull_back": (0, 4, 2),
    "compare": (0, 0, 2),
    "begin": (0, 1, 1),
    **dict.fromkeys(("train", "gate", "forget", "listen", "transpose"), (0, 0, 0)),
}
"""The fused operations, products and sums that stand in a function of `phases.c`, for all f
together, without divisions. Where its loop is unrolled, the code has them several times."""
MORE_IN_FLOAT64 = {"activate": (10, 0, 0)}  # reduce(x) has 5 coefficients more
DIVISIONS = {"activate": 2}
DIVISION = {"float32": (5, 0, 0), "float64": (7, 1, 0)}
"""What computes a division in place. What is rare goes to a function of the compiler's own."""
OF_INTEGERS = "F2I.FTZ.U32.TRUNC.NTZ"
"""This is in each division of integers, and nowhere else: it makes the reciprocal of one, which is
not subnormal, an integer again. Some GPUs divide to find how often an unrolled loop is run."""
KINDS = {
    "product": (True, False, True),
    "predict_from_pixels": (True, False, True),
    "learn_from_pixels": (True, False, False),
    "learn_bias": (True, False, True),
}
"""Which of the three there are in functions whose parts are unrolled in different ways."""


@dataclass(frozen=True)
class Made:
    """What NVRTC made of `phases.c`."""

    dtype: str
    code: bytes

    @cached_property
    def functions(self) -> dict[str, list[Instruction]]:
        """Those of the source by their names in it."""
        every = instructions(self.code).items()
        return {n.removeprefix("train."): f for n, f in every if not is_compilers_own(n)}

    def arithmetic(self, function: str, letter: str | None = None) -> tuple[int, int, int]:
        """How many fused operations, products and sums a function has, of its numbers' type.

        x + -0 is x: this is how some GPUs copy a number or change its sign.
        """
        copies = re.compile(r"-RZ\b")
        code = self.functions[function]
        found = counts(i for i in code if not (i.name == "DADD" and copies.search(i.operands)))
        letter = letter or ("D" if self.dtype == "float64" else "F")
        fused, products, sums = (found[f"{letter}{name}"] for name in ("FMA", "MUL", "ADD"))
        return fused, products, sums


@pytest.fixture(scope="module", params=[*FAST, *LONG], ids="-".join)
def made(request: pytest.FixtureRequest) -> Made:
    if reason := machine_code.missing():
        pytest.skip(reason)
    arch, dtype = request.param
    try:
        return Made(dtype, cubin(PHASES, [], arch, ["DOUBLE"] if dtype == "float64" else []))
    except CudaError as error:
        pytest.skip(str(error))


def test_no_register_is_spilled(made: Made) -> None:
    assert set(resources(made.code)) == {"train"}
    assert [resources(made.code)["train"][what] for what in ("LOCAL", "STACK")] == [0, 0]
    for name, function in made.functions.items():
        assert not {"STL", "LDL"} & counts(function).keys(), name


def test_nothing_is_approximate_but_the_start_of_a_division(made: Made) -> None:
    """A division of integers begins with the reciprocal of a number of float32 as well."""
    start = {"float32": "MUFU.RCP", "float64": "MUFU.RCP64H"}[made.dtype]
    for name, function in made.functions.items():
        of_integers = ["MUFU.RCP"] * sum(i.opcode == OF_INTEGERS for i in function)
        found = sorted(i.opcode for i in function if i.name == "MUFU")
        assert found == sorted(of_integers + [start] * DIVISIONS.get(name, 0)), name


def test_no_subnormal_number_is_flushed(made: Made) -> None:
    for name, function in made.functions.items():
        assert {i.opcode for i in function if ".FTZ" in i.opcode} <= {OF_INTEGERS}, name


def test_the_operations_are_those_of_the_source(made: Made) -> None:
    for name, element in ELEMENT.items():
        rows = [element]
        if made.dtype == "float64":
            rows.append(MORE_IN_FLOAT64.get(name, (0, 0, 0)))
        rows += [DIVISION[made.dtype]] * DIVISIONS.get(name, 0)
        once, found = tuple(map(sum, zip(*rows, strict=True))), made.arithmetic(name)
        copies = max(1, found[2] // max(1, once[2]))
        assert found == tuple(copies * count for count in once), name


def test_a_function_has_no_kind_of_operation_that_is_not_in_its_source(made: Made) -> None:
    for name, kinds in KINDS.items():
        assert tuple(map(bool, made.arithmetic(name))) == kinds, name
    assert ELEMENT.keys() | KINDS.keys() | {"clamp"} == made.functions.keys()


def test_a_squared_error_is_rounded_before_it_is_added(made: Made) -> None:
    """In `clamp`, in float64 whatever the dtype."""
    fused, products, sums = made.arithmetic("clamp", "D")
    differences = products  # s - mu, of the dtype's kind, one for each square
    if made.dtype == "float64":
        sums -= differences
    else:
        assert made.arithmetic("clamp") == (0, 0, differences)
    assert (fused, products) == (0, sums)
    assert products > 0
