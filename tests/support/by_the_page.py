"""The arithmetic of pcworker/kernels/fixed/README.md, written from that page alone: the oracle of
the tests of `phases.c`.

It is slow, and imports nothing of ours. A number is a Python float that binary32 or binary64 holds.
Every operation is computed exactly, on fractions n / 2^k of whole numbers, and then rounded once.
"""

import hashlib
import math
import struct
from fractions import Fraction
from typing import Any

Matrix = list[list[float]]
MASK = 2**64 - 1


class Arithmetic:
    """The operations of binary32 or binary64, and f."""

    def __init__(self, bits: int) -> None:
        self.bits = bits
        self.digits, self.least, self.largest = (24, -149, 128) if bits == 32 else (53, -1074, 1024)

    def rounded(self, n: int, k: int) -> float:
        """The number nearest to n / 2^k; of two, the even one."""
        size = abs(n)
        quantum = max(size.bit_length() - k - self.digits, self.least)
        drop = quantum + k
        if drop > 0:
            size = (size + (1 << (drop - 1)) - 1 + ((size >> drop) & 1)) >> drop
        else:
            size <<= -drop
        fits = size.bit_length() + quantum <= self.largest
        value = math.ldexp(size, quantum) if fits else math.inf
        return -value if n < 0 else value

    def number(self, value: float) -> float:
        return self.fma(value, 1.0, 0.0)

    def add(self, a: float, b: float) -> float:
        return self.fma(a, 1.0, b)

    def sub(self, a: float, b: float) -> float:
        return self.fma(-b, 1.0, a)

    def mul(self, a: float, b: float) -> float:
        return self.fma(a, b, 0.0)

    def div(self, a: float, b: float) -> float:
        if not (math.isfinite(a) and math.isfinite(b)):
            return a / b
        exact = Fraction(a) / Fraction(b)
        # more bits than a number has, and one bit for all that is left: it is rounded as a / b is
        more = 2000
        quotient, rest = divmod(exact.numerator << more, exact.denominator)
        return self.rounded(2 * quotient + bool(rest), more + 1)

    def fma(self, a: float, b: float, c: float) -> float:
        if not (math.isfinite(a) and math.isfinite(b) and math.isfinite(c)):
            return a * b + c
        (n, i), (m, j), (o, k) = _dyadic(a), _dyadic(b), _dyadic(c)
        return self.rounded((n * m << k) + (o << i + j), i + j + k)

    def chain(self, pairs: Any) -> float:
        s = 0.0
        for a, b in pairs:
            s = self.fma(a, b, s)
        return s

    def total(self, values: Any) -> float:
        s = 0.0
        for value in values:
            s = self.add(s, value)
        return s

    def reduce(self, x: float) -> tuple[int, float]:
        log2e, high, low = map(float.fromhex, REDUCTION[self.bits])
        q = round(self.mul(x, log2e))
        s = self.fma(float(q), -high, x)
        s = self.fma(float(q), -low, s)
        u, *others = map(float.fromhex, COEFFICIENTS[self.bits])
        for coefficient in others:
            u = self.fma(u, s, coefficient)
        return q, self.fma(self.mul(s, s), u, s)

    def exp(self, x: float) -> float:
        """exp(x), for x <= 0."""
        if math.isnan(x):
            return x
        q, m = self.reduce(max(x, LEAST[self.bits]))
        n, k = _dyadic(self.add(1.0, m))
        return self.rounded(n, k - q)

    def f(self, name: str, x: float) -> float:
        if name == "sigmoid":
            e = self.exp(-abs(x))
            return self.div(e if x < 0 else 1.0, self.add(1.0, e))
        if name == "relu":
            return 0.0 if x <= 0 else x
        q, m = self.reduce(min(self.add(abs(x), abs(x)), 20.0 if self.bits == 32 else 40.0))
        e = self.fma(2.0**q, m, self.number(2.0**q - 1.0))
        r = self.div(e, self.add(e, 2.0))
        return -r if x < 0 else r

    def back(self, name: str, g: float, y: float) -> float:
        if name == "sigmoid":
            return self.mul(self.mul(g, self.sub(1.0, y)), y)
        if name == "tanh":
            return self.mul(g, self.sub(1.0, self.mul(y, y)))
        return 0.0 if y <= 0 else g


REDUCTION = {
    32: ("0x1.715476p+0", "0x1.62e4p-1", "0x1.7f7d1cp-20"),
    64: ("0x1.71547652b82fep+0", "0x1.62e42fefa3p-1", "0x1.3de6af278ece6p-42"),
}
COEFFICIENTS = {
    32: (
        "0x1.a057b4p-13", "0x1.6d2d92p-10", "0x1.11114cp-7", "0x1.5554f4p-5", "0x1.555556p-3",
        "0x1p-1",
    ),
    64: (
        "0x1.1f0e4c4ecd775p-29", "0x1.af68a28cc800ap-26", "0x1.27e52e0fcd573p-22",
        "0x1.71ddf1629e6cep-19", "0x1.a01a01780879ep-16", "0x1.a01a01b3603f5p-13",
        "0x1.6c16c16c20bap-10", "0x1.111111110eb39p-7", "0x1.555555555553ep-5",
        "0x1.555555555555cp-3", "0x1p-1",
    ),
}  # fmt: skip
LEAST = {32: -104.0, 64: -746.0}


class Network:
    """One trial. Matrices are lists of rows, and lists of layers are indexed by l."""

    def __init__(
        self, parameters: list[tuple[Matrix, list[float] | None]], **settings: Any
    ) -> None:
        """
        parameters  (theta^{l+1} [n_l][n_{l+1}], b^{l+1} or None) for l = 0, 1, ...
        settings    bits, f, rule, t, t_d, horizon, gamma, sigma, arithmetic, layerwise
        """
        self.theta = [[list(row) for row in theta] for theta, _ in parameters]
        self.bias = [None if b is None else list(b) for _, b in parameters]
        self.l_max = len(self.theta)
        self.r = Arithmetic(settings["bits"])
        self.name = settings["f"]
        self.rule, self.textbook = settings["rule"], settings.get("arithmetic") == "textbook"
        self.gamma = self.r.number(settings.get("gamma") or 0.0)
        self.sigma = self.r.number(settings.get("sigma") or 0.0)
        self.t_d, self.layerwise = settings.get("t_d"), settings.get("layerwise", False)
        by_rule = {"BP": 0, "IL": settings.get("t"), "Fa-Z-IL": settings.get("horizon")}
        self.last_step = by_rule.get(self.rule, self.l_max - 1)
        self.squares: Matrix | None = None

    def predict(self, l: int) -> Matrix:
        """mu^l, by sample."""
        clean = l + 1 == self.l_max
        mu = []
        for fx in self.fx[l + 1]:
            row = []
            for j, theta in enumerate(self.theta[l]):
                terms = [(a, w) for a, w in zip(fx, theta, strict=True) if not (clean and a == 0)]
                p = self.r.chain(terms)
                bias = self.bias[l]
                row.append(p if bias is None else self.r.add(p, bias[j]))
            mu.append(row)
        return mu

    def pulled(self, l: int) -> Matrix:
        """f'(x^l) q^l, by sample."""
        out = []
        for eps, fx in zip(self.eps[l - 1], self.fx[l], strict=True):
            columns = zip(*self.theta[l - 1], strict=True)
            q = [self.r.chain(zip(eps, column, strict=True)) for column in columns]
            out.append([self.r.back(self.name, g, y) for g, y in zip(q, fx, strict=True)])
        return out

    def change(self, l: int, eps: Matrix, rate: float) -> None:
        clean = l + 1 == self.l_max
        samples = range(len(eps))
        for j, row in enumerate(self.theta[l]):
            for k in range(len(row)):
                kept = [i for i in samples if not (clean and self.fx[l + 1][i][k] == 0)]
                if kept:
                    c = self.r.chain((eps[i][j], self.fx[l + 1][i][k]) for i in kept)
                    row[k] = self.r.fma(rate, c, row[k])
            bias = self.bias[l]
            if bias is not None:
                bias[j] = self.r.fma(rate, self.r.total(eps[i][j] for i in samples), bias[j])

    def x(self, l: int) -> Matrix:
        return self.d[l] if self.textbook else _each(self.r.add, self.a[l], self.d[l])

    def error(self, l: int) -> Matrix:
        r = self.r
        if self.textbook:
            return _each(r.sub, self.d[l], self.mu[l])
        return _each(lambda d, mu, a: r.sub(d, r.sub(mu, a)), self.d[l], self.mu[l], self.a[l])

    def activate(self, l: int) -> None:
        self.fx[l] = _each(lambda x: self.r.f(self.name, x), self.x(l))

    def update(
        self, inputs: Matrix, targets: Matrix, noise: dict[int, Matrix], rate: float
    ) -> None:
        """One weight update. `noise` has the normals by l, if sigma is not 0."""
        r, layers = self.r, range(self.l_max)
        self.fx: list[Matrix] = [[] for _ in layers] + [inputs]
        self.mu, self.eps, self.a, self.d = ([[] for _ in layers] for _ in range(4))
        rate = r.number(rate)
        for l in reversed(layers):
            self.mu[l] = self.predict(l)
            if l > 0:
                self.a[l] = self.mu[l]
                zero = _each(lambda mu: 0.0, self.mu[l])
                shift = _each(lambda n: r.mul(self.sigma, n), noise[l]) if self.sigma else zero
                self.d[l] = _each(r.add, self.mu[l], shift) if self.textbook else shift
                self.activate(l)
        errors = _each(r.sub, targets, self.mu[0])
        self.a[0], self.d[0] = self.mu[0], targets if self.textbook else errors
        double = Arithmetic(64)
        squares = _each(lambda e: double.mul(e, e), errors)
        self.squares = _each(double.add, self.squares, squares) if self.squares else squares
        if self.rule == "BP":
            self.eps[0] = errors
            for l in range(1, self.l_max):
                self.eps[l] = self.pulled(l)
            for l in layers:
                self.change(l, self.eps[l], rate)
            return
        quiet = [_each(lambda mu: self.t_d, mu) for mu in self.mu]
        for t in range(self.last_step + 1):
            self.step(t, rate, quiet)

    def step(self, t: int, rate: float, quiet: list[Any]) -> None:
        r, layers = self.r, range(self.l_max)
        if t > 0:
            for l in layers[1:]:
                self.activate(l)
            self.mu = [self.predict(l) for l in layers]
        self.eps = [self.error(l) for l in layers]
        gated = list(self.eps)
        if self.rule == "Fa-Z-IL":
            gated = [
                _each(lambda e, q: e if e != 0 and q >= self.t_d else 0.0, self.eps[l], quiet[l])
                for l in layers
            ]
            for l in layers:
                quiet[l] = _each(lambda e, q: 0 if e != 0 else q + 1, self.eps[l], quiet[l])
        moved = list(self.d)
        for l in layers[1:]:
            change = _each(lambda p, e: r.mul(r.sub(p, e), self.gamma), self.pulled(l), self.eps[l])
            moved[l] = _each(r.add, self.d[l], change)
        for l in layers:
            fires = {
                "IL": t == self.last_step,
                "Z-IL": t == l,
                "Fa-Z-IL": t == l or not self.layerwise,
            }[self.rule]
            if fires:
                self.change(l, gated[l], rate)
        self.d = moved


def _dyadic(a: float) -> tuple[int, int]:
    """(n, k) with a = n / 2^k."""
    n, power = a.as_integer_ratio()
    return n, power.bit_length() - 1


def _each(function: Any, *matrices: Any) -> Any:
    """The function of the elements at each place."""
    return [
        [function(*elements) for elements in zip(*rows, strict=True)]
        for rows in zip(*matrices, strict=True)
    ]


def stream(seed: int, purpose: str, epoch: int, count: int) -> list[int]:
    """The first numbers of a stream."""
    key = int.from_bytes(hashlib.sha256(f"{seed}/{purpose}/{epoch}".encode()).digest()[:8], "big")
    numbers = []
    for i in range(count):
        z = (key + (i + 1) * 0x9E3779B97F4A7C15) & MASK
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
        numbers.append(z ^ (z >> 31))
    return numbers


def uniform(z: int, bound: float) -> float:
    """A weight, in binary64."""
    r = Arithmetic(64)
    return r.mul(r.sub(r.mul(2.0, (z >> 11) * 2.0**-53), 1.0), bound)


def order(seed: int, epoch: int, samples: int) -> list[int]:
    numbers = stream(seed, "order", epoch, samples)
    return sorted(range(samples), key=lambda i: (numbers[i], i))


def normals(z: int, w: int) -> tuple[float, float]:
    """Two normals, in binary64."""
    r = Arithmetic(64)
    v = Fraction((z >> 11) + 1, 2**53)
    e = 0
    bound = Fraction(float.fromhex("0x1.6a09e667f3bcdp-1"))
    while v < bound:
        v, e = v * 2, e - 1
    m = float(v)
    k = r.div(r.sub(m, 1.0), r.add(m, 1.0))
    p = _horner(r, r.mul(k, k), [Fraction(1, n) for n in range(23, 0, -2)])
    ln = r.add(r.mul(e, float.fromhex("0x1.62e42fefa39efp-1")), r.mul(r.add(k, k), p))
    radius = math.sqrt(r.mul(-2.0, ln))
    o = r.mul((w >> 9) % 2**53 * 2.0**-53, float.fromhex("0x1.921fb54442d18p+0"))
    down = range(11, -1, -1)
    c = _horner(r, r.mul(o, o), [Fraction((-1) ** j, math.factorial(2 * j)) for j in down])
    s = _horner(r, r.mul(o, o), [Fraction((-1) ** j, math.factorial(2 * j + 1)) for j in down])
    s = r.mul(s, o)
    for _ in range(w >> 62):
        c, s = r.sub(0.0, s), c
    return r.mul(radius, c), r.mul(radius, s)


def _horner(r: Arithmetic, y: float, coefficients: list[Fraction]) -> float:
    p = float(coefficients[0])
    for coefficient in coefficients[1:]:
        p = r.add(r.mul(p, y), float(coefficient))
    return p


def digest(parameters: list[tuple[Matrix, list[float] | None]], bits: int) -> str:
    """The digest of a network whose parameters are finite."""
    code = "<f" if bits == 32 else "<d"
    shas = []
    for theta, bias in parameters:
        for values in ([v for row in theta for v in row], bias):
            if values is not None:
                data = b"".join(struct.pack(code, v + 0.0) for v in values)
                shas.append(hashlib.sha256(data).hexdigest())
    return hashlib.sha256("\n".join(shas).encode()).hexdigest()


def distance(
    ours: list[tuple[Matrix, list[float] | None]], theirs: list[tuple[Matrix, list[float] | None]]
) -> tuple[float, float, float]:
    """L2, L1 and the largest absolute difference."""
    r = Arithmetic(64)
    l2 = l1 = largest = 0.0
    for (theta, bias), (other, other_bias) in zip(ours, theirs, strict=True):
        pairs = [
            both for rows in zip(theta, other, strict=True) for both in zip(*rows, strict=True)
        ]
        pairs += zip(bias or [], other_bias or [], strict=True)
        d = [abs(r.sub(a, b)) for a, b in pairs]
        root, g = math.sqrt(r.total(r.mul(a, a) for a in d)), max(d)
        if root in (0.0, math.inf) and g not in (0.0, math.inf):
            scaled = [r.div(a, g) for a in d]
            root = r.mul(g, math.sqrt(r.total(r.mul(a, a) for a in scaled)))
        elif root in (0.0, math.inf):
            root = g
        l2, l1, largest = r.add(l2, root), r.add(l1, r.total(d)), max(largest, g)
    return l2, l1, largest


def energy(squares: Matrix, samples: int) -> float:
    r = Arithmetic(64)
    return r.div(r.mul(0.5, r.total(q for row in squares for q in row)), float(samples))
