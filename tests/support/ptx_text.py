"""Reads PTX: the variables and functions of a module, and the lines of a function.

Whatever it does not know is an error that names it. The reference of PTX is NVIDIA's "Parallel
Thread Execution ISA".
"""

import re
from dataclasses import dataclass
from functools import cached_property

_COMMENT = re.compile(r"//[^\n]*")
_HEADER = re.compile(r"\.version \d+\.\d+|\.target sm_\w+|\.address_size 64")
_VARIABLE = re.compile(
    r"(?:\.(?:extern|visible)\s+)?\.(?P<space>global|shared|param)\s+(?:\.align\s+(?P<align>\d+)\s+)?"
    r"\.(?P<type>\w+)\s+(?:\.ptr\s+\.align\s+\d+\s+)?(?P<name>[\w$]+)(?P<array>\[(?P<count>\d*)\])?(?:\s*=\s*(?P<values>[^;]+))?"
)
_FUNCTION = re.compile(
    r"(?:\.visible\s+)?\.(entry|func)\s+([\w$]+)\s*\(([^)]*)\)\s*"
    r"(?:\.maxntid\s+(\d+)(?:,\s*1,\s*1)?\s*|\.minnctapersm\s+\d+\s*)*\{"
)
_LINE = re.compile(r"\s*(?:(?P<label>[\w$]+)\s*:|(?P<brace>[{}])|(?P<statement>[^;]+);)")
_STATEMENT = re.compile(r"(?:@(!?%\w+)\s+)?(\.?[a-z][\w.:]*)\s*(.*)")
_OPERAND = re.compile(r"\s*((?:\{[^}]*\}|\[[^]]*\]|\([^)]*\)|[^,])+?)\s*(?:,|$)")
_REGISTERS = re.compile(r"\.(\w+)\s+(%?\w+?)(?:<(\d+)>)?")
_BYTES = {"8": 1, "16": 2, "32": 4, "64": 8}


class UnknownPtx(Exception):
    """PTX has something that the emulator does not know."""


def size_of(type_: str) -> int:
    """The bytes of a number of a type such as "f32"."""
    if type_[1:] not in _BYTES:
        raise UnknownPtx(f"unknown type: .{type_}")
    return _BYTES[type_[1:]]


def parts_of(operand: str) -> list[str]:
    """The parts of an operand such as "{%r1, %r2}", or the operand itself."""
    return [part.strip() for part in operand.strip("{}()").split(",")]


@dataclass(frozen=True)
class Variable:
    """A variable of the module, or a parameter of a function."""

    space: str
    type: str
    name: str
    alignment: int
    count: int
    """How many numbers it has: 0 if the launch says how large it is."""
    values: tuple[str, ...]

    @property
    def size(self) -> int:
        return self.count * size_of(self.type)


@dataclass(frozen=True)
class Line:
    """An instruction, a declaration, a brace, or a label, whose opcode is ":"."""

    text: str
    guard: str
    """The predicate without which it does nothing, such as "%p1" or "!%p1", or ""."""
    opcode: str
    operands: tuple[str, ...]

    @property
    def name(self) -> str:
        """The opcode without what modifies it, such as "ld"."""
        return self.opcode.partition(".")[0]


@dataclass(frozen=True)
class Function:
    """A kernel, or a function that a kernel calls. It returns nothing."""

    name: str
    is_kernel: bool
    parameters: tuple[Variable, ...]
    most_threads: int | None
    """How many threads a block of a kernel may have, if its source says so."""
    lines: tuple[Line, ...]

    @cached_property
    def registers(self) -> dict[str, str]:
        """The type of every register, without the dot."""
        found = dict[str, str]()
        for line in self.lines:
            for declared in line.operands if line.opcode == ".reg" else ():
                if not (match := _REGISTERS.fullmatch(declared)):
                    raise UnknownPtx(f"unknown register: {line.text}")
                type_, name, count = match.groups()
                names = [f"{name}{i}" for i in range(int(count))] if count else [name]
                found |= dict.fromkeys(names, type_)
        return found

    @property
    def shared(self) -> list[Variable]:
        """The variables of a block that are declared in it. No other function knows their names."""
        return [variable(line.text) for line in self.lines if line.opcode == ".shared"]

    @cached_property
    def calls(self) -> list[str]:
        """The names of the functions that it calls."""
        return [line.operands[0] for line in self.lines if line.name == "call"]


@dataclass(frozen=True)
class Module:
    """All that was compiled together."""

    variables: dict[str, Variable]
    functions: dict[str, Function]

    def reached_from(self, kernel: str) -> list[Function]:
        """The functions that a kernel calls, directly or not, and at the end the kernel itself."""
        found: dict[str, None] = {}

        def visit(name: str) -> None:
            if name not in self.functions:
                raise UnknownPtx(f"unknown function: {name}")
            if name not in found:
                for called in self.functions[name].calls:
                    visit(called)
                found[name] = None

        visit(kernel)
        return [self.functions[name] for name in found]


def module(text: str) -> Module:
    """Raises UnknownPtx if there is something that is not known."""
    text, at = _COMMENT.sub("", text).rstrip(), 0
    variables, functions = dict[str, Variable](), dict[str, Function]()
    while at < len(text := text.rstrip()):
        if text[at].isspace():
            at += 1
        elif match := _HEADER.match(text, at):
            at = match.end()
        elif match := _FUNCTION.match(text, at):
            at = _end_of_body(text, match.end())
            function = _function(match, text[match.end() : at - 1])
            functions[function.name] = function
            variables |= {shared.name: shared for shared in function.shared}
        elif (match := _VARIABLE.match(text, at)) and text[match.end()] == ";":
            at = match.end() + 1
            variables[match["name"]] = _variable(match)
        else:
            raise UnknownPtx(f"unknown declaration: {text[at:].splitlines()[0]}")
    return Module(variables, functions)


def variable(declared: str) -> Variable:
    """A variable from its declaration, such as ".param .align 8 .b8 name[16]"."""
    if not (match := _VARIABLE.fullmatch(declared.strip())):
        raise UnknownPtx(f"unknown variable: {declared}")
    return _variable(match)


def _variable(match: re.Match[str]) -> Variable:
    return Variable(
        space=match["space"],
        type=match["type"],
        name=match["name"],
        alignment=int(match["align"] or size_of(match["type"])),
        count=int(match["count"] or 0) if match["array"] else 1,
        values=tuple(parts_of(match["values"])) if match["values"] else (),
    )


def _function(match: re.Match[str], body: str) -> Function:
    kind, name, parameters, most_threads = match.groups()
    declared = [text for text in parameters.split(",") if text.strip()]
    threads = int(most_threads) if most_threads else None
    return Function(name, kind == "entry", tuple(map(variable, declared)), threads, _lines(body))


def _end_of_body(text: str, at: int) -> int:
    """The place after the brace that ends what began before `at`."""
    depth = 1
    for brace in re.compile("[{}]").finditer(text, at):
        depth += 1 if brace[0] == "{" else -1
        if not depth:
            return brace.end()
    raise UnknownPtx("a function does not end")


def _lines(body: str) -> tuple[Line, ...]:
    lines, at, body = [], 0, body.rstrip()
    while at < len(body):
        if not (match := _LINE.match(body, at)):
            raise UnknownPtx(f"unknown text: {body[at:].strip().splitlines()[0]}")
        if label := match["label"] or match["brace"]:
            lines.append(Line(label, "", ":" if match["label"] else label, (label,)))
        else:
            lines.append(_statement(" ".join(match["statement"].split())))
        at = match.end()
    return tuple(lines)


def _statement(text: str) -> Line:
    if not (match := _STATEMENT.fullmatch(text)):
        raise UnknownPtx(f"unknown statement: {text}")
    guard, opcode, operands = match.groups()
    return Line(text, guard or "", opcode, tuple(m[1] for m in _OPERAND.finditer(operands)))
