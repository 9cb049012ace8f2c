"""Who computes what at which inference step: pure functions on integers, no tensors.

A stack is a row of trials; a *block* is a run of neighbours that share a rule, its last step and
whether they are noisy. For every step t the schedule says, per operation, which layers of which
trials take part. `literal` is the paper's text: every neuron at every step. `layerwise` leaves out
what cannot reach a weight update any more, and what is known to be unchanged: without noise
eps^l_t is exactly 0 for t < l (the paper's Lemma A3), and x^l first moves at t = l - 1. Both give
the same bits for IL and Z-IL, and gamma is not looked at. Fa-Z-IL's layerwise schedule looks at phi
of layer l only up to t = l, and misses what fires later.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import NamedTuple


class Kind(NamedTuple):
    """What of a trial decides its schedule."""

    rule: str
    last_step: int
    noisy: bool
    schedule: str
    """"layerwise" or "literal"."""


class Block(NamedTuple):
    """Neighbouring trials start .. stop - 1 of a stack, all of one kind."""

    kind: Kind
    start: int
    stop: int


class Part(NamedTuple):
    """Layer l of the trials start .. stop - 1."""

    layer: int
    start: int
    stop: int
    gated: bool = False
    """Whether phi gates these trials' weight updates (Fa-Z-IL)."""


@dataclass(frozen=True)
class Step:
    """The work of one inference step, in this order; all of it reads time-t values only.

    activate  x^l and f(x^l), where x^l has moved
    predict   mu^l (Eq. 5)
    compare   eps^l (Eq. 5)
    listen    phi(eps^l), for Fa-Z-IL
    move      x^l to t + 1 (Eq. 7)
    learn     theta^{l+1} to t + 1 (Eq. 9)
    """

    activate: tuple[Part, ...] = ()
    predict: tuple[Part, ...] = ()
    compare: tuple[Part, ...] = ()
    listen: tuple[Part, ...] = ()
    move: tuple[Part, ...] = ()
    learn: tuple[Part, ...] = ()

    @cached_property
    def shared(self) -> frozenset[int]:
        """The l whose eps^l both moves x^{l+1} and teaches theta^{l+1} at this step, ungated: where
        the pull-back and the change of the weights come out of one computation, one will do."""
        moved = {part.layer for part in self.move}
        return frozenset(p.layer for p in self.learn if not p.gated and p.layer + 1 in moved)


OPERATIONS = tuple(field.name for field in fields(Step))


@dataclass
class _Needs:
    """The layers that each operation needs at one step."""

    activate: set[int] = field(default_factory=set)
    predict: set[int] = field(default_factory=set)
    compare: set[int] = field(default_factory=set)
    listen: set[int] = field(default_factory=set)
    move: set[int] = field(default_factory=set)
    learn: set[int] = field(default_factory=set)


def sort_key(kind: Kind) -> tuple[bool, int, bool, str]:
    """Order of kinds in a stack in which neighbours mostly need the same work at the same t."""
    sparse = kind.schedule == "layerwise" and not kind.noisy and kind.rule in ("Z-IL", "Fa-Z-IL")
    return (sparse, -kind.last_step, not kind.noisy, kind.rule + kind.schedule)


def steps(blocks: Sequence[Block], l_max: int) -> tuple[Step, ...]:
    """The work of a stack for t = 0, 1, ... until the last trial's last step."""
    needs = [
        (_literal if block.kind.schedule == "literal" else _layerwise)(block.kind, l_max)
        for block in blocks
    ]
    last = max((block.kind.last_step for block in blocks), default=-1)
    return tuple(
        Step(**{name: tuple(_parts(blocks, needs, t, name, l_max)) for name in OPERATIONS})
        for t in range(last + 1)
    )


def _fires(kind: Kind, l: int, t: int, every_step: bool) -> bool:
    """Whether theta^{l+1} may move at t (for Fa-Z-IL: phi decides then)."""
    if kind.rule == "IL":
        return t == kind.last_step
    return t == l or (kind.rule == "Fa-Z-IL" and every_step)


def _literal(kind: Kind, l_max: int) -> list[_Needs]:
    every, hidden = set(range(l_max)), set(range(1, l_max))
    table = []
    for t in range(kind.last_step + 1):
        need = _Needs(compare=set(every), move=set(hidden))
        if t > 0:  # at t = 0 the start has predicted and activated all
            need.activate, need.predict = set(hidden), set(every)
        if kind.rule == "Fa-Z-IL":
            need.listen = set(every)
        need.learn = {l for l in every if _fires(kind, l, t, every_step=True)}
        table.append(need)
    return table


def _layerwise(kind: Kind, l_max: int) -> list[_Needs]:
    def silent(l: int, t: int) -> bool:
        return not kind.noisy and l >= 1 and t < l

    table = [_Needs() for _ in range(kind.last_step + 1)]
    later: set[int] = set()  # hidden layers whose activity is needed after t
    for t in reversed(range(kind.last_step + 1)):
        need = table[t]
        heard = {l for l in range(l_max) if not silent(l, t)}
        need.learn = {l for l in heard if _fires(kind, l, t, every_step=False)}
        if kind.rule == "Fa-Z-IL":
            need.listen = {l for l in heard if t <= l}
        need.move = {l for l in later if not silent(l, t + 1)}
        need.compare = need.learn | need.listen | need.move | {l - 1 for l in need.move}
        later |= need.compare | {l + 1 for l in need.compare}
        later &= set(range(1, l_max))

    stale_activity: set[int] = set()
    stale_prediction: set[int] = set()
    for need in table:
        need.predict = need.compare & stale_prediction
        used = need.move | {l + 1 for l in need.predict | need.learn}
        need.activate = used & stale_activity
        stale_activity = stale_activity - need.activate | need.move
        stale_prediction -= need.predict
        stale_prediction |= {l - 1 for l in need.move} | need.learn
    return table


def _parts(
    blocks: Sequence[Block], needs: Sequence[list[_Needs]], t: int, operation: str, l_max: int
) -> Iterator[Part]:
    """Where `operation` takes place at t, neighbouring blocks joined."""
    for l in range(l_max):
        run: Part | None = None
        for block, table in zip(blocks, needs, strict=True):
            if t >= len(table) or l not in getattr(table[t], operation):
                continue
            gated = operation == "learn" and block.kind.rule == "Fa-Z-IL"
            if run and run.stop == block.start and run.gated == gated:
                run = run._replace(stop=block.stop)
                continue
            if run:
                yield run
            run = Part(l, block.start, block.stop, gated)
        if run:
            yield run
