"""Says which operation takes place for which layer at which inference step, in pure functions.

A stack is a row of trials. A *block* is a run of neighbours that share a rule, its last step and
whether they are noisy. For every step t a schedule says, for each operation, which layers of which
trials take part. There are two schedules:

literal    is the paper's text: every neuron at every step.
layerwise  leaves out what cannot reach a weight update any more, and what is known to be unchanged:
           without noise eps^l_t is exactly 0 for t < l (the paper's Lemma A3), and x^l first moves
           at t = l - 1.

Both give the same bits for IL and Z-IL, whatever gamma is. For Fa-Z-IL, layerwise looks at phi of
layer l only up to t = l, and misses neurons that fire later.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import NamedTuple

from pcworker.equations.rules import RULES


class Kind(NamedTuple):
    """Everything about a trial that decides its schedule."""

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
    """True if phi gates these trials' weight updates."""


@dataclass(frozen=True)
class Step:
    """The work of one inference step, in this order. All of it reads values of time t only.

    activate  x^l and f(x^l), where x^l has moved
    predict   mu^l (Eq. 5)
    compare   eps^l (Eq. 5)
    listen    phi(eps^l), for gated rules
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
        """The layers l whose ungated eps^l both moves x^{l+1} and teaches theta^{l+1} at this step.

        A layer that gets its pull-back and its change of weights out of one computation makes that
        computation only once there.
        """
        moved = {part.layer for part in self.move}
        return frozenset(p.layer for p in self.learn if not p.gated and p.layer + 1 in moved)


OPERATIONS = tuple(field.name for field in fields(Step))
"""The operations of a step, in their order."""


@dataclass
class _Needs:
    """The layers of one kind that take part in each operation at one step."""

    activate: set[int] = field(default_factory=set)
    predict: set[int] = field(default_factory=set)
    compare: set[int] = field(default_factory=set)
    listen: set[int] = field(default_factory=set)
    move: set[int] = field(default_factory=set)
    learn: set[int] = field(default_factory=set)


def sort_key(kind: Kind) -> tuple[bool, int, bool, str]:
    """The order of kinds in a stack. Neighbours in this order mostly do the same work at a t."""
    in_turn = RULES[kind.rule].layer_by_layer
    sparse = in_turn and kind.schedule == "layerwise" and not kind.noisy
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


def _literal(kind: Kind, l_max: int) -> list[_Needs]:
    """Every neuron at every step, by t."""
    rule, last = RULES[kind.rule], kind.last_step
    every, hidden = set(range(l_max)), set(range(1, l_max))
    table = []
    for t in range(last + 1):
        need = _Needs(compare=set(every), move=set(hidden))
        if t > 0:  # at t = 0 the start has predicted and activated all layers
            need.activate, need.predict = set(hidden), set(every)
        if rule.gated:
            need.listen = set(every)
        need.learn = {l for l in every if rule.fires(l, t, last, every_step=True)}
        table.append(need)
    return table


def _layerwise(kind: Kind, l_max: int) -> list[_Needs]:
    """Only what some weight update depends on, by t."""
    table = [_Needs() for _ in range(kind.last_step + 1)]
    _trace_updates_back(table, kind, l_max)
    _refresh_what_changed(table)
    return table


def _trace_updates_back(table: Sequence[_Needs], kind: Kind, l_max: int) -> None:
    """Fills in learn, listen, move and compare, from the last step back to t = 0.

    Going back, `wanted` holds the hidden layers whose activity some later error depends on. Only
    those have to move. An error eps^l depends on x^l and, through mu^l, on x^{l+1}.
    """
    rule, last = RULES[kind.rule], kind.last_step
    hidden = set(range(1, l_max))

    def is_zero(l: int, t: int) -> bool:
        """True if eps^l_t is known to be exactly 0 (Lemma A3)."""
        return not kind.noisy and l >= 1 and t < l

    wanted: set[int] = set()
    for t in reversed(range(last + 1)):
        need = table[t]
        nonzero = {l for l in range(l_max) if not is_zero(l, t)}
        need.learn = {l for l in nonzero if rule.fires(l, t, last, every_step=False)}
        if rule.gated:
            need.listen = {l for l in nonzero if t <= l}
        # as long as the next error of a layer is known to be 0, its activity does not move
        need.move = {l for l in wanted if not is_zero(l, t + 1)}
        need.compare = need.learn | need.listen | need.move | {l - 1 for l in need.move}
        wanted |= need.compare | {l + 1 for l in need.compare}
        wanted &= hidden


def _refresh_what_changed(table: Sequence[_Needs]) -> None:
    """Fills in predict and activate, from t = 0 on: only what is used, and has changed since it was
    last computed.

    A prediction mu^l changes with x^{l+1} and with theta^{l+1}, and f(x^l) with x^l. At t = 0 the
    start has computed all of them.
    """
    stale_activity: set[int] = set()
    stale_prediction: set[int] = set()
    for need in table:
        need.predict = need.compare & stale_prediction
        used = need.move | {l + 1 for l in need.predict | need.learn}
        need.activate = used & stale_activity
        stale_activity = (stale_activity - need.activate) | need.move
        stale_prediction -= need.predict
        stale_prediction |= {l - 1 for l in need.move} | need.learn


def _parts(
    blocks: Sequence[Block], needs: Sequence[list[_Needs]], t: int, operation: str, l_max: int
) -> Iterator[Part]:
    """Yields the parts where `operation` takes place at t. Neighbouring blocks become one part."""
    for l in range(l_max):
        run: Part | None = None
        for block, table in zip(blocks, needs, strict=True):
            if t >= len(table) or l not in getattr(table[t], operation):
                continue
            gated = operation == "learn" and RULES[block.kind.rule].gated
            if run and run.stop == block.start and run.gated == gated:
                run = run._replace(stop=block.stop)
                continue
            if run:
                yield run
            run = Part(l, block.start, block.stop, gated)
        if run:
            yield run
