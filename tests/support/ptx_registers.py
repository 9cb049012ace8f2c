"""Finds registers of a function of PTX that may be read before anything was written to them."""

import re

from ptx_text import Function, Line, UnknownPtx

_REGISTER = re.compile(r"%\w+(?![\w.])")
_WRITES_NOTHING = {"st", "bar", "bra", "call", "ret"}


def written(line: Line) -> list[str]:
    """The registers that an instruction writes."""
    if line.opcode[0] in ".:{}" or line.name in _WRITES_NOTHING:
        return []
    return _REGISTER.findall(line.operands[0])


def read(line: Line) -> list[str]:
    """The registers that an instruction reads, without those that it only packs."""
    if line.opcode[0] in ".:{}" or _packs(line):
        return []
    operands = line.operands[1:] if written(line) else line.operands
    return _REGISTER.findall(" ".join((line.guard, *operands)))


def halves(function: Function) -> set[str]:
    """The registers that are packed into one of twice the size. Some compilers pack one to which
    nothing was written, beside the one that they want."""
    lines = filter(_packs, function.lines)
    return {name for line in lines for name in _REGISTER.findall(line.operands[1])}


def _packs(line: Line) -> bool:
    return line.opcode == "mov.b64" and line.operands[1].startswith("{")


def unwritten(function: Function) -> set[str]:
    """The registers of which a way from the start leads to an instruction that reads them, and to
    none that writes them before: those that are live at the start."""
    lines, numbers = function.lines, {name: i for i, name in enumerate(function.registers)}

    def bits(names: list[str]) -> int:
        if unknown := set(names) - numbers.keys():
            raise UnknownPtx(f"unknown register: {', '.join(sorted(unknown))}")
        return sum(1 << numbers[name] for name in set(names))

    reads = [bits(read(line)) for line in lines]
    keeps = [~bits(written(line)) if not line.guard else -1 for line in lines]
    follow = _successors(function)
    live, changed = [0] * (len(lines) + 1), True
    while changed:
        changed = False
        for i in reversed(range(len(lines))):
            after = 0
            for successor in follow[i]:
                after |= live[successor]
            now = reads[i] | after & keeps[i]
            changed |= now != live[i]
            live[i] = now
    return {name for name, i in numbers.items() if live[0] >> i & 1}


def _successors(function: Function) -> list[list[int]]:
    """The numbers of the lines that may come after each line."""
    lines = function.lines
    labels = {line.operands[0]: i for i, line in enumerate(lines) if line.opcode == ":"}
    found = []
    for i, line in enumerate(lines):
        leaves = line.name in ("bra", "ret") and not line.guard
        jumps = [labels[line.operands[0]]] if line.name == "bra" else []
        found.append(jumps + ([] if leaves else [i + 1]))
    return found
