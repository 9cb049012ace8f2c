"""The determinism audit: results that were computed more than once must be equal bit for bit.

The audit costs no extra training. Every shard trains copies of its BP twins anyway. An attempt that
finished after another one had committed, or was killed before its commit, has left its results.
Sweeps that are collected together may hold the same trials. And the digests of some trials are
published.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import pyarrow.compute as pc

from cluster.results.committed import Committed
from cluster.results.duplicates import Duplicate
from cluster.results.reading import read_all
from pcworker.row import Row
from pcworker.store.commit import FinishedAttempt, read_attempt
from pcworker.store.store import Store
from pcworker.text import in_a_line


@dataclass(frozen=True)
class Published:
    """The comparison of trials with digests that are published."""

    compared: int = 0
    """The number of trials whose digests are published."""
    differing: tuple[str, ...] = ()
    """A line for each of them that has other bits."""


@dataclass(frozen=True)
class Audit:
    """The comparisons that were made, and a line for each difference that was found. A line names
    the hosts and devices of both sides."""

    copies: int
    """The number of compared copies of BP trials, each in another shard than the trial itself."""
    differing_copies: tuple[str, ...]
    """A line for each copy whose weights differ from the trial's after any epoch."""
    attempts: int
    """The number of attempts that trained a shard to its end but are not the committed one."""
    shards: int
    """The number of shards that have such attempts."""
    differing_attempts: tuple[str, ...]
    """A line for each such attempt whose results differ from the committed ones."""
    duplicates: int
    """The number of trials that were left out because another sweep's copy of them was kept."""
    differing_duplicates: tuple[str, ...]
    """A line for each such trial whose results differ from those that were kept."""
    published: Published
    """The comparison with published digests."""

    @property
    def differing(self) -> tuple[str, ...]:
        """All lines. Their order is that of the fields."""
        return (
            *self.differing_copies,
            *self.differing_attempts,
            *self.differing_duplicates,
            *self.published.differing,
        )


Repeated = tuple[int, FinishedAttempt]
"""The place of a commit, and another attempt that trained the same shard to its end."""


def audit(
    committed: Committed,
    repeated: Sequence[Repeated],
    duplicates: tuple[int, Sequence[Duplicate]],
    published: Published,
) -> Audit:
    """Compares the copies of BP trials with the trials themselves, and repeated attempts with the
    committed ones. Duplicates have been compared already, as they were read, and so have published
    digests.

    duplicates  the number of trials that were left out, and those of them that differ
    """
    copies, differing = _copies(committed)
    commit = partial(_commit, committed)
    count, other = duplicates
    return Audit(
        copies=copies,
        differing_copies=tuple(
            f"BP trial {twin}: {commit(copy)} differs from {commit(owner)}"
            for twin, copy, owner in differing
        ),
        attempts=len(repeated),
        shards=len({place for place, _ in repeated}),
        differing_attempts=tuple(_differing_attempts(committed, repeated)),
        duplicates=count,
        differing_duplicates=tuple(
            f"trial {each.trial_id}: sweep {_sweep(committed, each.left_out)}, "
            f"{commit(each.left_out)} differs from sweep {_sweep(committed, each.kept)}, "
            f"{commit(each.kept)}, whose rows the tables hold, in {', '.join(each.differing)}"
            for each in other
        ),
        published=published,
    )


def read_repeated(store: Store, beside: Sequence[tuple[str, int]]) -> tuple[Repeated, ...]:
    """Reads the repeated attempts. One that cannot be read is left out, because it proves nothing.

    beside  the keys of the attempts that trained to their end but are not the committed ones, each
            with the place of the commit of its shard
    """
    found = read_all(partial(read_attempt, store), (key for key, _ in beside))
    return tuple(
        (place, attempt)
        for (_, place), attempt in zip(beside, found, strict=True)
        if isinstance(attempt, FinishedAttempt)
    )


def _copies(committed: Committed) -> tuple[int, list[tuple[str, int, int]]]:
    """The number of copies of BP trials, and for each copy that differs: the trial's id, the place
    of the commit that holds the copy, and that of the one that holds the trial itself."""
    owners = {twin: (place, digest) for place, twin, owned, digest in _twins(committed) if owned}
    copies, differing = 0, []
    for place, twin, _, digest in _twins(committed):
        owner, owners_digest = owners.get(twin, (place, digest))
        copies += owner != place
        if digest != owners_digest:
            differing.append((twin, place, owner))
    return copies, differing


def _twins(committed: Committed) -> Iterator[tuple[int, str, bool, str]]:
    """Yields for each twin of each commit: the place of the commit, the twin's id, whether it is a
    trial of the same shard, and its digest."""
    for portion in committed.portions():
        twins = portion.entries["twins"]
        yield from zip(
            pc.add(pc.list_parent_indices(twins), portion.first).to_pylist(),
            *(
                pc.list_flatten(portion.entries[name]).to_pylist()
                for name in ("twins", "owned", "digests")
            ),
            strict=True,
        )


def _differing_attempts(committed: Committed, repeated: Sequence[Repeated]) -> Iterator[str]:
    """Yields a line for each attempt whose results differ from the committed ones."""
    for place, attempt in repeated:
        entry = committed.entry(place)
        if attempt.result_digest != entry["result_digest"]:
            ran_on = in_a_line(f"{attempt.hostname}, {attempt.device}")
            yield (
                f"shard {entry['shard_id']}: attempt {attempt.attempt_id} ({ran_on}) differs from "
                f"the committed {entry['attempt_id']} ({_ran_on(entry)})"
            )


def _sweep(committed: Committed, place: int) -> str:
    name: str = committed.plans[committed.plan_of[place]].name
    return name


def _commit(committed: Committed, place: int) -> str:
    """Names the shard of a commit, and what trained it."""
    entry = committed.entry(place)
    return f"shard {entry['shard_id']} ({_ran_on(entry)})"


def _ran_on(entry: Row) -> str:
    return in_a_line(f"{entry['hostname']}, {entry['device']}")
