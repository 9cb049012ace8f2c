"""The emulator of PTX itself: what an instruction computes, and what is an error.

Oracle: numbers that were computed by hand from NVIDIA's description of each instruction, and for
whole kernels the emulator of their source.
"""

import ctypes
import math
import struct
from pathlib import Path

import pytest
from emulated_gpu import ORDERS, EmulatedGpu
from emulated_ptx import EmulatedPtx
from nvrtc_ptx import require_nvrtc
from ptx_code import kernel_code
from ptx_text import UnknownPtx, module

KERNELS = """
struct Pair { int by; long long value; };
extern __shared__ int numbers[];
__device__ int table[4] = {5, -6, 7, 8};

static __device__ __noinline__ void add(Pair pair, const int *from, long long *to) {
    to[threadIdx.x] = from[pair.by] + pair.value;
}
extern "C" __global__ void meet(long long *out, long long base) {
    __shared__ int bits;
    if (threadIdx.x == 0) bits = numbers[0] == -1;
    numbers[threadIdx.x] = base + threadIdx.x;
    __syncthreads();
    atomicOr(&bits, 2 << threadIdx.x % 16);
    __syncthreads();
    Pair pair = {(int)(blockDim.x - 1 - threadIdx.x), bits};
    add(pair, numbers, out + (long long)blockIdx.x * blockDim.x);
    __syncwarp();
    out[blockIdx.x * blockDim.x + threadIdx.x] += table[threadIdx.x % 4];
}
extern "C" __global__ void __launch_bounds__(64) nothing(long long *out) {}
extern "C" __global__ void halves(long long *out) {
    if (threadIdx.x < 40) __syncthreads();
    out[0] = 1;
}
extern "C" __global__ void four_at(float4 *out) { *out = make_float4(1, 2, 3, 4); }
extern "C" __global__ void two_of_the_block(long long *out, long long at) {
    *out = *(const long long *)(numbers + at);
}
extern "C" __global__ void divide(long long *out, long long by) { *out = 7 / by; }
"""


@pytest.fixture(autouse=True)
def _nvrtc_is_here() -> None:
    require_nvrtc()


@pytest.fixture(scope="module")
def kernels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    source = tmp_path_factory.mktemp("kernels") / "kernels.cu"
    source.write_text(KERNELS)
    return source


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("arch", ["compute_90", "compute_100"])
def test_threads_meet_in_shared_memory_and_functions_take_what_is_given(
    kernels: Path, arch: str, order: str
) -> None:
    out = (ctypes.c_longlong * 96)()
    gpu = EmulatedPtx(kernels, arch=arch, order=order)
    gpu.launch("meet", 2, 48, 48 * 4, [ctypes.addressof(out), 100])
    # the block begins with the bits 1 everywhere, and the threads set 16 bits more
    bits = 1 + sum(2 << i for i in range(16))
    block = [100 + 47 - i + bits + (5, -6, 7, 8)[i % 4] for i in range(48)]
    assert list(out) == block * 2


@pytest.mark.parametrize(
    ("kernel", "threads", "shared", "argument", "trouble"),
    [
        ("halves", 64, 0, 0, "not every thread of the block"),
        ("nothing", 65, 0, 0, "a block has at most 64 threads"),
        ("divide", 1, 0, 0, "a whole number is divided by 0"),
        ("two_of_the_block", 1, 16, 3, "not aligned: ld.shared.u64"),
        ("two_of_the_block", 1, 16, 4, "beyond the shared memory of the block: ld.shared.u64"),
        ("two_of_the_block", 1, 16, -2, "beyond the shared memory of the block: ld.shared.u64"),
    ],
)
def test_what_a_gpu_would_not_do_is_an_error(
    kernels: Path, kernel: str, threads: int, shared: int, argument: int, trouble: str
) -> None:
    out = ctypes.c_longlong()
    given = [ctypes.addressof(out), argument]
    arguments = given if kernel in ("divide", "two_of_the_block") else given[:1]
    with pytest.raises(RuntimeError, match=trouble):
        EmulatedPtx(kernels).launch(kernel, 1, threads, shared, arguments)


def test_the_last_numbers_of_shared_memory_may_be_read(kernels: Path) -> None:
    out = ctypes.c_longlong()
    EmulatedPtx(kernels).launch("two_of_the_block", 1, 1, 16, [ctypes.addressof(out), 2])
    assert out.value == -1


@pytest.mark.parametrize("off", [0, 4, 8])
def test_four_numbers_at_once_need_an_address_that_is_aligned_for_four(
    kernels: Path, off: int
) -> None:
    out = (ctypes.c_float * 12)()
    start = -(-ctypes.addressof(out) // 16) * 16
    first = (start - ctypes.addressof(out)) // 4
    if off:
        with pytest.raises(RuntimeError, match=r"not aligned: st\.global\.v4\.f32"):
            EmulatedPtx(kernels).launch("four_at", 1, 1, 0, [start + off])
    else:
        EmulatedPtx(kernels).launch("four_at", 1, 1, 0, [start])
        assert out[first : first + 4] == [1, 2, 3, 4]


# ---- Single instructions ----

COMPUTED = [
    # the instruction, the types of its result and operands, the operands, the result
    ("shl.b32", "uuu", ("3", "31"), 2**31),
    ("shl.b32", "uuu", ("3", "32"), 0),
    ("shl.b64", "UUu", ("3", "63"), -(2**63)),
    ("shr.u32", "uuu", ("0x80000000u", "40"), 0),
    ("shr.s32", "iiu", ("-8", "1"), -4),
    ("shr.s32", "iiu", ("-8", "40"), -1),
    ("shr.s64", "IIu", ("-8", "64"), -1),
    ("add.s32", "iii", ("0x7fffffff", "1"), -(2**31)),
    ("mul.lo.s64", "III", ("0x4000000000000001", "6"), -(2**63) + 6),
    ("mad.lo.s32", "iiii", ("0x10000", "0x10000", "-9"), -9),
    ("mul.wide.s32", "Iii", ("-3", "0x7fffffff"), -3 * (2**31 - 1)),
    ("mul.wide.u32", "Uuu", ("0xfffffffdu", "0x7fffffff"), (2**32 - 3) * (2**31 - 1)),
    ("div.s32", "iii", ("-7", "2"), -3),
    ("div.s32", "iii", ("0x80000000", "-1"), -(2**31)),
    ("rem.s32", "iii", ("-7", "2"), -1),
    ("div.u32", "uuu", ("0xfffffff9u", "2"), 2**31 - 4),
    ("max.u64", "UUU", ("-1", "1"), -1),
    ("min.s32", "iii", ("-1", "1"), -1),
    ("abs.f32", "ff", ("-0.0f",), 0.0),
    ("neg.f64", "dd", ("0.0",), -0.0),
    ("fma.rn.f32", "ffff", ("0x1.000002p0f", "0x1.000002p0f", "-0x1.000004p0f"), 2.0**-46),
    ("fma.rn.f64", "dddd", ("0x1.8p-1022", "0x1.8p-53", "0.0"), 2.0**-1074),
    ("mul.rn.f32", "fff", ("0x1p-100f", "0x1.8p-50f"), 2.0**-149),
    ("div.rn.f32", "fff", ("1.0f", "3.0f"), 11184811 / 2**25),
    ("sqrt.rn.f64", "dd", ("2.0",), 2.0**0.5),
    ("cvt.rn.f32.f64", "fd", ("0x1.000001p0",), 1.0),
    ("cvt.rn.f64.u64", "dU", ("0xfffffffffffff400ull",), 2.0**64 - 4096),
    ("cvt.rn.f64.s32", "di", ("-3",), -3.0),
]
CONSTRAINTS = {"i": "r", "u": "r", "I": "l", "U": "l", "f": "f", "d": "d"}
TYPES = {"i": "int", "u": "unsigned", "I": "long long", "U": "unsigned long long"}
TYPES |= {"f": "float", "d": "double"}


def computing(instruction: str, letters: str, operands: tuple[str, ...], place: int) -> str:
    """CUDA that computes an instruction and writes the result as an int64 or a float64."""
    result, rest = letters[0], letters[1:]
    places = ", ".join(f"%{i}" for i in range(len(letters)))
    given = ", ".join(
        f'"{CONSTRAINTS[letter]}"(({TYPES[letter]}){operand})'
        for letter, operand in zip(rest, operands, strict=True)
    )
    written = "double" if result in "fd" else "long long"
    return (
        f"{{ {TYPES[result]} d; "
        f'asm volatile("{instruction} {places};" : "={CONSTRAINTS[result]}"(d) : {given}); '
        f"(({written} *)out)[{place}] = d; }}"
    )


def test_an_instruction_computes_what_its_description_says(tmp_path: Path) -> None:
    every = [computing(*row[:3], place) for place, row in enumerate(COMPUTED)]
    source, out = tmp_path / "instructions.cu", (ctypes.c_longlong * len(COMPUTED))()
    kernel = 'extern "C" __global__ void compute(long long *out) {\n'
    source.write_text(kernel + "\n".join(every) + "}")
    EmulatedPtx(source).launch("compute", 1, 1, 0, [ctypes.addressof(out)])
    for (instruction, _, operands, result), found in zip(COMPUTED, out, strict=True):
        bits = struct.pack("d" if isinstance(result, float) else "q", result)
        assert struct.pack("q", found) == bits, (instruction, operands)


_TESTS = {
    **dict.fromkeys("abc", ("<", "<=", ">", ">=", "==", "!=")),
    "d": ("<", ">"),
}
COMPARISONS = [f"{array}[i] {sign} {array}[j]" for array, signs in _TESTS.items() for sign in signs]
COMPARED = f"""
extern "C" __global__ void compare(int *out, const float *a, const double *b, const int *c,
                                   const unsigned *d) {{
    int i = threadIdx.x % 6, j = threadIdx.x / 6;
    out += {len(COMPARISONS)} * threadIdx.x;
    {" ".join(f"out[{place}] = {test};" for place, test in enumerate(COMPARISONS))}
}}
"""


def test_comparisons_are_those_of_the_source(tmp_path: Path) -> None:
    """Oracle: the emulator of the source. The numbers are NaN, infinite, both zeros and others."""
    source = tmp_path / "compare.cu"
    source.write_text(COMPARED)
    floats = (math.nan, math.inf, -0.0, 0.0, 1.0, -1.0)
    given = ((ctypes.c_float * 6)(*floats), (ctypes.c_double * 6)(*floats))
    numbers = (ctypes.c_int * 6)(0, 1, -1, 2**31 - 1, -(2**31), 7)
    found = list[list[int]]()
    for gpu in (EmulatedPtx(source), EmulatedGpu(source)):
        out = (ctypes.c_int * (36 * len(COMPARISONS)))()
        addresses = [ctypes.addressof(array) for array in (out, *given, numbers, numbers)]
        gpu.launch("compare", 1, 36, 0, addresses)
        found.append(list(out))
    assert found[0] == found[1]
    assert set(found[0]) == {0, 1}


# ---- What is not known ----


@pytest.mark.parametrize(
    ("body", "flags", "named"),
    [
        ("*out = __shfl_sync(~0u, (int)*out, 0)", (), r"shfl\.sync\.idx\.b32"),
        ("*x = *x + x[1]", ("--ftz=true",), r"add\.rn\.ftz\.f32"),
        ("*x = *x / x[1]", ("--prec-div=false",), r"div\.full\.f32"),
        ("*x = __expf(*x)", (), r"ex2\.approx"),
        ("*x = __fadd_rz(*x, x[1])", (), r"add\.rz\.f32"),
        ("*out = twice(*out)", (), r"unknown declaration: \.func +\(\.param \.b64"),
        ("*x = *out", (), r"cvt\.rn\.f32\.s64"),
        (
            "int n[9]; for (int i = 0; i < *out; i++) n[i % 9] = i; *out = n[*out % 9]",
            (),
            r"\.local",
        ),
    ],
)
def test_what_is_not_known_is_an_error_that_names_it(
    tmp_path: Path, body: str, flags: tuple[str, ...], named: str
) -> None:
    source = tmp_path / "unknown.cu"
    head = """
static __device__ __noinline__ long long twice(long long n) { return n * threadIdx.x; }
extern "C" __global__ void unknown(long long *out, float *x)"""
    source.write_text(f"{head} {{ {body}; }}")
    with pytest.raises(UnknownPtx, match=named):
        EmulatedPtx(source, flags=flags).launch("unknown", 1, 1, 0, [0, 0])


PTX = """
.version 9.2
.target sm_90
.address_size 64
.visible .entry kernel(
    .param .u64 kernel_param_0
)
{{
    .reg .pred %p<2>;
    .reg .b32 %r<3>;
    .reg .b64 %rd<3>;
    ld.param.u64 %rd1, [kernel_param_0];
    mov.u32 %r1, 7;
    setp.eq.s32 %p1, %r1, 7;
    {line}
$L_end:
    ret;
}}
"""


def test_a_line_that_is_known_is_no_error() -> None:
    assert "goto" in kernel_code(module(PTX.format(line="@%p1 bra $L_end;")), "kernel")


@pytest.mark.parametrize(
    ("line", "trouble"),
    [
        ("add.s32 %r1, %r1, %r2;", "may read %r2"),
        ("@%p1 mov.u32 %r2, 1; add.s32 %r1, %r1, %r2;", "may read %r2"),
        ("@%p1 bra $L_1; mov.u32 %r2, 1; $L_1: add.s32 %r1, %r1, %r2;", "may read %r2"),
        ("add.s64 %rd1, %rd1, %r1;", "type .b32 where one of type .s64 is needed"),
        ("add.s32 %rd1, %r1, %r1;", "type .s32 for the register %rd1"),
        ("add.s32 %r1, %r1, 0f3F800000;", "unknown number 0f3F800000 of type .s32"),
        ("add.s32 %r1, %r1, %laneid;", "unknown register: %laneid"),
        ("add.sat.s32 %r1, %r1, %r1;", r"unknown instruction: add\.sat\.s32"),
        ("ld.volatile.u32 %r1, [%rd1];", r"unknown instruction: ld\.volatile\.u32"),
        ("ld.param.u64 %rd1, [kernel_param_0+4];", "beyond the parameter"),
        ("ld.param.u32 %r1, [kernel_param_0+2];", "not aligned in the parameter"),
        ("bar.sync 1;", r"unknown instruction: bar\.sync 1"),
        ("bar.sync 0, 32;", r"unknown instruction: bar\.sync 0, 32"),
        ('.pragma "unheard of";', r"unknown instruction: \.pragma"),
        ("mov.u32 %r1, nowhere;", "unknown number nowhere of type .u32"),
    ],
)
def test_a_line_that_is_not_known_or_wrong_is_an_error(line: str, trouble: str) -> None:
    with pytest.raises(UnknownPtx, match=trouble):
        kernel_code(module(PTX.format(line=line)), "kernel")


def test_a_variable_that_is_not_known_is_an_error() -> None:
    with pytest.raises(UnknownPtx, match=r"\.const \.align 4 \.u32 one = 1;"):
        module(".const .align 4 .u32 one = 1;" + PTX)
