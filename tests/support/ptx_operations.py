"""The instructions of PTX that compute, each as an expression of C++.

An expression has the operands as `a`, `b` and `c`. C++ is compiled so that whole numbers wrap
around, and that no product and sum are fused. `emulated_ptx.h` has what C++ has no operator for.
"""

from typing import NamedTuple

_EVERY = "u32 u64 b32 b64 f32 f64 pred"
_FLOATS = "f32 f64"
_ROWS = (
    # the opcode, the types that are put behind it as `t`, result = operands, the expression
    ("add.rn", _FLOATS, "t = t t", "a + b"),
    ("sub.rn", _FLOATS, "t = t t", "a - b"),
    ("mul.rn", _FLOATS, "t = t t", "a * b"),
    ("div.rn", _FLOATS, "t = t t", "a / b"),
    ("fma.rn", _FLOATS, "t = t t t", "fused(a, b, c)"),
    ("sqrt.rn", "f64", "t = t", "__builtin_sqrt(a)"),
    ("neg", "s32 s64 f32 f64", "t = t", "-a"),
    ("abs", _FLOATS, "t = t", "__builtin_fabs(a)"),
    ("add", "s16 s32 s64", "t = t t", "a + b"),
    ("sub", "s16 s32 s64", "t = t t", "a - b"),
    ("mul.lo", "s32 s64", "t = t t", "a * b"),
    ("mad.lo", "s32 s64", "t = t t t", "a * b + c"),
    ("mul.wide", "s32", "s64 = t t", "(int64_t)a * b"),
    ("mul.wide", "u32", "u64 = t t", "(uint64_t)a * b"),
    ("div", "s32 s64 u16 u32 u64", "t = t t", "quotient(a, b)"),
    ("rem", "s32 s64 u32", "t = t t", "remainder(a, b)"),
    ("min", "s32", "t = t t", "a < b ? a : b"),
    ("max", "s32 u32 u64", "t = t t", "a > b ? a : b"),
    ("and", "b32 b64 pred", "t = t t", "a & b"),
    ("or", "b32 b64 pred", "t = t t", "a | b"),
    ("xor", "b64", "t = t t", "a ^ b"),
    ("not", "b32 b64", "t = t", "~a"),
    ("not", "pred", "t = t", "!a"),
    ("shl", "b32 b64", "t = t u32", "b < width(a) ? a << b : 0"),
    ("shr", "u32 u64", "t = t u32", "b < width(a) ? a >> b : 0"),
    ("shr", "s32 s64", "t = t u32", "a >> (b < width(a) ? b : width(a) - 1)"),
    ("mov", _EVERY, "t = t", "a"),
    ("selp", "u32 b32 b64 f32 f64", "t = t t pred", "c ? a : b"),
    ("cvta.to.global", "u64", "t = t", "a"),
    ("cvt.f64", "f32", "f64 = t", "a"),
    ("cvt.rn.f32", "f64", "f32 = t", "(float)a"),
    ("cvt.rn.f64", "s32 u64", "f64 = t", "(double)a"),
    ("cvt.s64", "s32", "s64 = t", "a"),
    ("cvt.u16", "u32", "u16 = t", "(uint16_t)a"),
    ("cvt.u32", "u16 u64", "u32 = t", "(uint32_t)a"),
    ("cvt.u64", "u32", "u64 = t", "a"),
    ("setp.eq", "s16 s32 s64 b16 b32 b64 f32 f64", "pred = t t", "a == b"),
    ("setp.ne", "s16 s32 s64 b16 b32 b64", "pred = t t", "a != b"),
    ("setp.neu", _FLOATS, "pred = t t", "a != b"),
    ("setp.lt", "s32 s64 u32 u64 f32 f64", "pred = t t", "a < b"),
    ("setp.le", "s32 f32 f64", "pred = t t", "a <= b"),
    ("setp.gt", "s32 s64 u32 u64 f32 f64", "pred = t t", "a > b"),
    ("setp.ge", "s32 s64 u32 f32 f64", "pred = t t", "a >= b"),
)


class Operation(NamedTuple):
    """What an instruction computes."""

    result: str
    """Its type."""
    operands: tuple[str, ...]
    """Their types."""
    expression: str


def _operation(signature: str, type_: str, expression: str) -> Operation:
    result, operands = (
        tuple(type_ if word == "t" else word for word in side.split())
        for side in signature.split("=")
    )
    return Operation(result[0], operands, expression)


OPERATIONS = {
    f"{opcode}.{type_}": _operation(signature, type_, expression)
    for opcode, types, signature, expression in _ROWS
    for type_ in types.split()
}
"""By the opcode with its type, such as "add.rn.f32"."""
