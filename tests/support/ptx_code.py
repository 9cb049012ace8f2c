"""Writes the C++ of a kernel whose PTX is known, step by step: a register is a variable, a label is
a label, and a block of shared memory has the variables of the kernel at their places.

Whatever is not known is an error that names it.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from ptx_operands import Operands, c_type, constant, name_of
from ptx_operations import OPERATIONS
from ptx_registers import halves, unwritten
from ptx_text import Function, Line, Module, UnknownPtx, Variable, parts_of, size_of, variable

_WHOLE = {
    "ret": "return;",
    "bar.sync 0": "__syncthreads();",
    "bar.warp.sync -1": "__syncwarp();",
}
"""Instructions with the only operands that they may have."""
_ATOMIC = {"add.u32": "__atomic_fetch_add", "or.b32": "__atomic_fetch_or"}
_MEMORY = re.compile(r"(ld|st)(?:\.(global|shared|param|global\.nc))?(?:\.v([24]))?\.([busf]\d+)")
_ATOM = re.compile(r"atom(?:\.(global|shared))?\.(\w+\.(\w+))")
_PRAGMA = re.compile(r'"(nounroll|used_bytes_mask \d+)"')
"""They change no result."""


@dataclass(frozen=True)
class SharedMemory:
    """Where a kernel's variables lie in the shared memory of a block."""

    places: Mapping[str, int]
    size: int
    """Without what the launch adds."""


def shared_memory(module: Module, kernel: str) -> SharedMemory:
    """The variables that the kernel and its functions name, in the order of the module. The one
    whose size the launch states is the last."""
    operands = (o for f in module.reached_from(kernel) for line in f.lines for o in line.operands)
    words = set(re.findall(r"[\w$]+", " ".join(operands)))
    named = [v for v in module.variables.values() if v.space == "shared" and v.name in words]
    places, size = {}, 0
    for shared in sorted(named, key=lambda shared: not shared.count):
        size = -(-size // shared.alignment) * shared.alignment
        places[shared.name] = size
        size += shared.size
    return SharedMemory(places, size)


def kernel_code(module: Module, kernel: str) -> str:
    """The C++ of a kernel and of all that it calls. Raises UnknownPtx if something is not known,
    or if a register may be read to which nothing was written."""
    places = shared_memory(module, kernel).places
    variables = {v.name: v for v in module.variables.values() if v.space == "global"}
    parts = ['#include "emulated_ptx.h"', *map(_definition, variables.values())]
    for function in module.reached_from(kernel):
        if registers := unwritten(function):
            names = ", ".join(sorted(registers))
            raise UnknownPtx(f"{function.name} may read {names}, to which it wrote nothing")
        parameters = {parameter.name: parameter for parameter in function.parameters}
        operands = Operands(function.registers, places, variables, parameters)
        parts += _function(function, operands, module)
    return "\n".join([*parts, *_entry(module.functions[kernel])]) + "\n"


def _definition(of: Variable) -> str:
    values = ", ".join(constant(value, of.type) for value in of.values)
    declared = f"static {c_type(of.type)} {name_of(of.name)}[{of.count}]"
    return f"alignas({of.alignment}) {declared} = {{{values}}};"


def _function(function: Function, operands: Operands, module: Module) -> Iterator[str]:
    """Each parameter is the address of its bytes. See `halves` about the -1, a NaN."""
    packed = halves(function)
    parameters = [f"const unsigned char *{name_of(p.name)}" for p in function.parameters]
    head = f"static __attribute__((noinline)) void {name_of(function.name)}"
    yield f"{head}({', '.join(parameters)}) {{"
    for name, type_ in function.registers.items():
        yield f"{c_type(type_)} {name_of(name)}{' = -1' if name in packed else ''};"
    for line in function.lines:
        try:
            code = _code(line, operands, module)
        except UnknownPtx as error:
            raise UnknownPtx(f"{error}: {line.text}") from error
        guard = line.guard.replace("%", "v_")
        yield f"if ({guard}) {{ {code} }}" if guard else code
    yield "}"


def _entry(kernel: Function) -> Iterator[str]:
    """What the emulator launches."""
    if any(parameter.size != 8 for parameter in kernel.parameters):
        raise UnknownPtx(f"{kernel.name} has a parameter that does not take 8 bytes")
    numbers = range(len(kernel.parameters))
    values = ", ".join(f"int64_t value{i}" for i in numbers)
    addresses = ", ".join(f"(const unsigned char *)&value{i}" for i in numbers)
    yield f'extern "C" void {kernel.name}({values}) {{ {name_of(kernel.name)}({addresses}); }}'


def _code(line: Line, operands: Operands, module: Module) -> str:
    """The C++ of a line, without its guard."""
    match line.opcode:
        case ":":
            return f"{name_of(line.operands[0])}:;"
        case "{" | "}":
            return line.opcode
        case ".reg" | ".shared":
            return ""  # they are declared where the function begins
        case ".param":
            return _declared(variable(line.text), operands)
        case ".pragma" if _PRAGMA.fullmatch(line.operands[0]):
            return ""
        case "bra" | "bra.uni":
            return f"goto {name_of(line.operands[0])};"
        case "call.uni":
            return _call(line, operands, module)
        case "mov.b64" if "{" in line.text:
            return _halves(line, operands)
    if line.opcode in OPERATIONS:
        return _computed(line, operands)
    if match := _MEMORY.fullmatch(line.opcode):
        return _moved(line, match, operands)
    if (match := _ATOM.fullmatch(line.opcode)) and match[2] in _ATOMIC:
        return _changed(line, match, operands)
    whole = " ".join((line.opcode, *line.operands))
    if whole not in _WHOLE:
        raise UnknownPtx("unknown instruction")
    return _WHOLE[whole]


def _declared(parameter: Variable, operands: Operands) -> str:
    """The parameter of a call."""
    operands.parameters[parameter.name] = parameter
    name = name_of(parameter.name)
    return f"alignas({parameter.alignment}) unsigned char {name}[{parameter.size}];"


def _call(line: Line, operands: Operands, module: Module) -> str:
    name, *rest = line.operands
    given = parts_of(rest[0]) if rest else []
    passed = [operands.parameters[text] for text in given]
    asked = module.functions[name].parameters
    if [(p.size, p.alignment) for p in passed] != [(p.size, p.alignment) for p in asked]:
        raise UnknownPtx("a call with other parameters than the function's")
    return f"{name_of(name)}({', '.join(map(name_of, given))});"


def _computed(line: Line, operands: Operands) -> str:
    operation = OPERATIONS[line.opcode]
    to, *given = line.operands
    if len(given) != len(operation.operands):
        raise UnknownPtx("unknown operands")
    values = map(operands.value, given, operation.operands)
    written = {name: f"({value})" for name, value in zip("abc", values, strict=False)}
    value = re.sub(r"\b[abc]\b", lambda match: written[match[0]], operation.expression)
    return operands.put(to, value, operation.result)


def _halves(line: Line, operands: Operands) -> str:
    """Makes a number of two halves, or takes one apart. A half that nobody wants is called "_"."""
    to, from_ = line.operands
    if from_[0] == "{":
        low, high = (operands.value(half, "b32") for half in parts_of(from_))
        return operands.put(to, f"{low} | (uint64_t){high} << 32", "b64")
    whole, (low, high) = operands.value(from_, "b64"), parts_of(to)
    wanted = [(half, shift) for half, shift in ((low, 0), (high, 32)) if half != "_"]
    puts = (operands.put(half, f"(uint32_t)({whole} >> {shift})", "b32") for half, shift in wanted)
    return " ".join(puts)


def _moved(line: Line, match: re.Match[str], operands: Operands) -> str:
    """A load or a store."""
    kind, space, count, type_ = match.groups()
    to, from_ = line.operands
    address, register = (from_, to) if kind == "ld" else (to, from_)
    registers = parts_of(register)
    if len(registers) != int(count or 1):
        raise UnknownPtx("unknown operands")
    place = operands.place(address, space, len(registers) * size_of(type_), line.text)
    numbers = [f"(({c_type(type_)} *)at)[{i}]" for i in range(len(registers))]
    if kind == "ld":
        steps = [_loaded(operands, *pair, type_) for pair in zip(registers, numbers, strict=True)]
    else:
        values = [operands.value(register, type_) for register in registers]
        steps = [f"{number} = {value};" for number, value in zip(numbers, values, strict=True)]
    return f"{{ {place} {' '.join(steps)} }}"


def _loaded(operands: Operands, register: str, number: str, type_: str) -> str:
    """A register may be wider than the whole number that is loaded into it."""
    target = operands.type_of(register)
    whole = "f" not in (type_[0], target[0]) and target != "pred"
    if whole and size_of(target) > size_of(type_):
        return operands.put(register, number, target)
    return operands.put(register, number, type_)


def _changed(line: Line, match: re.Match[str], operands: Operands) -> str:
    """An atomic operation."""
    space, operation, type_ = match.groups()
    to, address, by = line.operands
    place = operands.place(address, space, size_of(type_), line.text)
    value = f"{_ATOMIC[operation]}(({c_type(type_)} *)at, {operands.value(by, type_)}, 0)"
    return f"{{ {place} {operands.put(to, value, type_)} }}"
