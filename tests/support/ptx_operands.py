"""The operands of PTX in C++: registers, constants, variables and places in memory.

Whatever is not known is an error that names it.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from ptx_text import UnknownPtx, Variable, size_of

_TYPES = {
    **{f"{letter}{size}": f"uint{size}_t" for letter in "bu" for size in (8, 16, 32, 64)},
    **{f"s{size}": f"int{size}_t" for size in (8, 16, 32, 64)},
    **{"f32": "float", "f64": "double", "pred": "bool"},
}
_SPECIAL = {
    "%tid.x": "threadIdx.x",
    "%ntid.x": "blockDim.x",
    "%ctaid.x": "blockIdx.x",
    "%nctaid.x": "gridDim.x",
}
_ADDRESS = re.compile(r"\[([%\w$]+)(?:\+(-?\d+))?\]")


def name_of(ptx: str) -> str:
    """What a register, a label, a function or a variable is called in C++."""
    return "v" + re.sub(r"\W", "_", ptx)


def c_type(type_: str) -> str:
    """The type of C++ for one such as "u32"."""
    if type_ not in _TYPES:
        raise UnknownPtx(f"unknown type: .{type_}")
    return _TYPES[type_]


def constant(text: str, type_: str) -> str:
    """A constant of PTX, such as "-1" or "0f3F800000"."""
    if re.fullmatch(r"-?\d+", text) and type_[0] != "f":
        return f"({c_type(type_)}){int(text) % 2**64:#x}ull"
    match = re.fullmatch(r"0(?:f([0-9A-Fa-f]{8})|d([0-9A-Fa-f]{16}))", text)
    if match and type_[0] in "bf":
        digits = match[1] or match[2]
        return f"as<{c_type(type_)}>((uint{4 * len(digits)}_t)0x{digits}ull)"
    raise UnknownPtx(f"unknown number {text} of type .{type_}")


def as_type(value: str, from_: str, to: str) -> str:
    """The bits of a number as a number of another type, which has the same size."""
    old, new = c_type(from_), c_type(to)
    if old == new:
        return value
    if "pred" in (from_, to) or size_of(from_) != size_of(to):
        raise UnknownPtx(f"a number of type .{from_} where one of type .{to} is needed")
    return f"as<{new}>({value})" if "f" in (from_[0], to[0]) else f"({new}){value}"


@dataclass(frozen=True)
class Operands:
    """The operands that the instructions of a function may have."""

    registers: Mapping[str, str]
    """The type of each."""
    shared: Mapping[str, int]
    """Where each variable lies in the shared memory of a block."""
    variables: Mapping[str, Variable]
    """Those in the memory of the GPU."""
    parameters: dict[str, Variable] = field(default_factory=dict)
    """Those of the function, and those of its calls by now."""

    def type_of(self, register: str) -> str:
        if register not in self.registers:
            raise UnknownPtx(f"unknown register {register}")
        return self.registers[register]

    def value(self, text: str, type_: str) -> str:
        """The number of an operand, as one of this type."""
        if text in self.registers:
            return as_type(name_of(text), self.registers[text], type_)
        if text in _SPECIAL:
            return as_type(_SPECIAL[text], "u32", type_)
        if text in self.shared:
            return as_type(f"(uint32_t){self.shared[text]}", "u32", type_)
        if text in self.variables:
            return as_type(f"(uint64_t){name_of(text)}", "u64", type_)
        return constant(text, type_)

    def put(self, register: str, value: str, type_: str) -> str:
        """Writes a number of this type to a register."""
        target = self.type_of(register)
        if "f" in (type_[0], target[0]):
            value = as_type(f"({c_type(type_)})({value})", type_, target)
        elif type_ != target and ("pred" in (type_, target) or size_of(type_) != size_of(target)):
            raise UnknownPtx(f"a number of type .{type_} for the register {register}")
        return f"{name_of(register)} = {value};"

    def place(self, text: str, space: str | None, bytes_: int, line: str) -> str:
        """Declares `at`, the place of an address such as "[%rd1+8]". It is in the memory of the
        GPU if no other space is named: see `cvta` in `ptx_operations.py`."""
        if not (match := _ADDRESS.fullmatch(text)):
            raise UnknownPtx("unknown address")
        base, offset = match[1], int(match[2] or 0)
        if space == "param":
            return f"const auto at = {self._parameter(base, offset, bytes_)};"
        kind, bits = ("SHARED", 32) if space == "shared" else ("GLOBAL", 64)
        address = f"{self.value(base, f'u{bits}')} + (uint{bits}_t){offset}"
        return f'AT_{kind}({address}, {bytes_}, "{line}")'

    def _parameter(self, base: str, offset: int, bytes_: int) -> str:
        if base not in self.parameters:
            raise UnknownPtx("unknown parameter")
        parameter = self.parameters[base]
        if not 0 <= offset <= parameter.size - bytes_:
            raise UnknownPtx("beyond the parameter")
        if offset % bytes_ or parameter.alignment % bytes_:
            raise UnknownPtx("not aligned in the parameter")
        return f"{name_of(base)} + {offset}"
