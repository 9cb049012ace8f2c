"""Reads the machine code of a GPU (SASS) by NVIDIA's nvdisasm and cuobjdump, which need no GPU."""

import importlib.util
import re
import shutil
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

_LINE = re.compile(r"/\*([0-9a-f]{4,})\*/\s+(?:(@!?U?P\w+)\s+)?([A-Z][\w.]*)\s*(.*?)\s*;")
_LABEL = re.compile(r"(\S+):$")
_TARGET = re.compile(r"`\((\S+)\)")


@dataclass(frozen=True)
class Instruction:
    """One instruction of a function."""

    place: int
    """Its first byte in the code of the kernel."""
    guard: str
    """The predicate without which it does nothing, such as "@!P0", or ""."""
    opcode: str
    """With what modifies it, such as "MUFU.RCP"."""
    operands: str
    target: int | None
    """The place to which it jumps, if it does and that is in the same kernel."""

    @property
    def name(self) -> str:
        """The opcode alone, such as "MUFU"."""
        return self.opcode.partition(".")[0]


@dataclass
class _Kernel:
    """The lines of a kernel's code as they come."""

    name: str
    labels: dict[str, int] = field(default_factory=dict)
    functions: dict[str, list[tuple[int, str, str, str]]] = field(default_factory=dict)


def missing() -> str | None:
    """What is needed to read machine code and is not here, or None."""
    for name in ("nvdisasm", "cuobjdump"):
        if _tool(name) is None:
            return f"no {name} here: install the package nvidia-cuda-{name}"
    return None


def instructions(cubin: bytes) -> dict[str, list[Instruction]]:
    """The instructions of each function, in their order.

    A kernel has its own name. What it calls has the kernel's name, a dot, and the name in the
    source, such as "train.product". `is_compilers_own` tells what is not in the source.
    """
    found = {}
    for kernel in _kernels(_said("nvdisasm", cubin)):
        for name, lines in kernel.functions.items():
            found[name] = [_instruction(line, kernel.labels) for line in lines]
    return found


def resources(cubin: bytes) -> dict[str, dict[str, int]]:
    """What a thread or a block of each kernel takes: REG, STACK, SHARED, LOCAL and others.

    STACK and LOCAL are bytes of a thread: they are 0 unless registers are spilled, arrays have
    indices that are not known, or functions need a stack. SHARED is without what a launch adds.
    """
    said = _said("cuobjdump", cubin, "--dump-resource-usage")
    named = re.findall(r"Function (\S+):\n(.*)", said)
    return {
        name: {key: int(value) for key, value in re.findall(r"(\S+):(\d+)", line)}
        for name, line in named
    }


def counts(some: Iterable[Instruction]) -> Counter[str]:
    """How often each opcode is there, without what modifies it."""
    return Counter(instruction.name for instruction in some)


def loops(function: Sequence[Instruction]) -> list[list[Instruction]]:
    """The instructions of each loop, from the target of a jump back to the jump, by their places.

    An inner loop is in the list too, and its instructions are also in the outer one. A jump to
    itself is no loop: the compiler puts one behind the code, where no thread comes.
    """
    first = function[0].place
    return [
        [i for i in function if jump.target <= i.place <= jump.place]
        for jump in function
        if jump.name == "BRA" and jump.target is not None and first <= jump.target < jump.place
    ]


def is_compilers_own(name: str) -> bool:
    """Whether a function is one that the compiler adds, such as the rare cases of a division."""
    return ".__cuda_" in name


def _instruction(line: tuple[int, str, str, str], labels: dict[str, int]) -> Instruction:
    place, guard, opcode, operands = line
    label = _TARGET.search(operands)
    return Instruction(place, guard, opcode, operands, labels.get(label[1]) if label else None)


def _kernels(listing: str) -> list[_Kernel]:
    kernels: list[_Kernel] = []
    waiting: list[str] = []  # labels before the next instruction
    for line in map(str.strip, listing.splitlines()):
        if label := _LABEL.fullmatch(line):
            waiting.append(label[1])
        if line.startswith(".section"):
            waiting = []
        if match := _LINE.search(line):
            place, guard, opcode, operands = match.groups()
            for name in waiting:
                _open(kernels, name, int(place, 16))
            waiting = []
            lines = list(kernels[-1].functions.values())[-1]
            lines.append((int(place, 16), guard or "", opcode, operands))
    return kernels


def _open(kernels: list[_Kernel], label: str, place: int) -> None:
    """Notes a label, which may begin a kernel, a function of a kernel, or nothing of these."""
    if label.startswith(".text."):
        kernels.append(_Kernel(label.removeprefix(".text.")))
        kernels[-1].functions[kernels[-1].name] = []
    elif label.startswith("$"):
        name = f"{kernels[-1].name}.{_plain(label)}"
        unused = name if name not in kernels[-1].functions else f"{kernels[-1].name}.{label}"
        kernels[-1].functions[unused] = []
    if kernels:
        kernels[-1].labels[label] = place


def _plain(label: str) -> str:
    """The name in the source of `$train$_Z7productiiPf`, or what is after the last `$`."""
    mangled = label.rpartition("$")[2]
    if not (start := re.match(r"_ZN?K?", mangled)):
        return mangled
    names, rest = [], mangled[start.end() :]
    while length := re.match(r"L?(\d+)", rest):
        stop = length.end() + int(length[1])
        names.append(rest[length.end() : stop])
        rest = rest[stop:] if "N" in start[0] else ""
    return names[-1] if names else mangled


def _said(tool: str, cubin: bytes, *options: str) -> str:
    path = _tool(tool)
    assert path is not None, missing()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "code.cubin"
        file.write_bytes(cubin)
        command = [path, *options, str(file)]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def _tool(name: str) -> str | None:
    spec = importlib.util.find_spec("nvidia")
    folders = map(Path, (spec.submodule_search_locations or []) if spec else [])
    packaged = [path for folder in folders for path in folder.glob(f"*/bin/{name}")]
    return str(packaged[0]) if packaged else shutil.which(name)
