"""The determinism audit: results that were computed more than once must be equal bit for bit.

The audit costs no extra training. Every shard trains copies of its BP twins anyway. An attempt that
finished after another one had committed, or was killed before its commit, has left its results.
Sweeps that are collected together may hold the same trials. And the digests of some trials are
published.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from cluster.results.duplicates import Duplicate
from cluster.results.reading import read_all
from pcworker.store.commit import Commit, FinishedAttempt, read_attempt
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


Repeated = tuple[Commit, FinishedAttempt]
"""A commit, and another attempt that trained the same shard to its end."""


def audit(
    commits: Sequence[Commit],
    repeated: Sequence[Repeated],
    duplicates: Sequence[Duplicate],
    published: Published,
) -> Audit:
    """Compares the copies of BP trials with the trials themselves, and repeated attempts with the
    committed ones. Duplicates have been compared already, as they were read, and so have published
    digests."""
    copies = list(_copies(commits))
    return Audit(
        copies=len(copies),
        differing_copies=tuple(
            f"BP trial {twin}: shard {copy.shard_id} ({_ran_on(copy)}) differs from "
            f"shard {owner.shard_id} ({_ran_on(owner)})"
            for twin, copy, owner in copies
            if copy.twins[twin] != owner.twins[twin]
        ),
        attempts=len(repeated),
        shards=len({(commit.where.sweep, commit.shard_id) for commit, _ in repeated}),
        differing_attempts=tuple(
            f"shard {commit.shard_id}: attempt {attempt.attempt_id} "
            f"({in_a_line(f'{attempt.hostname}, {attempt.device}')}) differs from the committed "
            f"{commit.attempt_id} ({_ran_on(commit)})"
            for commit, attempt in repeated
            if attempt.result_digest != commit.result_digest
        ),
        duplicates=len(duplicates),
        differing_duplicates=tuple(
            f"trial {each.trial_id}: sweep {_in_sweep(each.left_out)} differs from sweep "
            f"{_in_sweep(each.kept)}, whose rows the tables hold, in {', '.join(each.differing)}"
            for each in duplicates
            if each.differing
        ),
        published=published,
    )


def read_repeated(store: Store, beside: Sequence[tuple[str, Commit]]) -> tuple[Repeated, ...]:
    """Reads the repeated attempts. One that cannot be read is left out, because it proves nothing.

    beside  the keys of the attempts that trained to their end but are not the committed ones, each
            with the commit of its shard
    """
    found = read_all(partial(read_attempt, store), (key for key, _ in beside))
    return tuple(
        (commit, attempt)
        for (_, commit), attempt in zip(beside, found, strict=True)
        if isinstance(attempt, FinishedAttempt)
    )


def _copies(commits: Sequence[Commit]) -> Iterator[tuple[str, Commit, Commit]]:
    """Yields for each copy: the BP trial's id, the commit that holds the copy, and the commit that
    holds the trial itself."""
    owners = {
        trial_id: commit
        for commit in commits
        for trial_id in commit.trial_ids
        if trial_id in commit.twins
    }
    for commit in commits:
        for twin in commit.twins:
            owner = owners.get(twin)
            if owner is not None and owner is not commit:
                yield twin, commit, owner


def _in_sweep(commit: Commit) -> str:
    return f"{commit.where.sweep}, shard {commit.shard_id} ({_ran_on(commit)})"


def _ran_on(commit: Commit) -> str:
    return in_a_line(f"{commit.where.hostname}, {commit.where.device}")
