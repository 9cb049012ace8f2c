"""The determinism audit: what was computed more than once must be bit-identical every time.

It costs nothing extra: every shard trains copies of its BP twins anyway, and attempts that lost a
race, or were killed before their commit, have left what they found.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from cluster.results.reading import read_all
from pcworker.store.commit import Commit, FinishedAttempt, read_attempt
from pcworker.store.store import Store


@dataclass(frozen=True)
class Audit:
    """What was compared, and what differs; one line each, with what ran both sides."""

    copies: int
    """Of BP trials, in other shards than the trial's own."""
    differing_copies: tuple[str, ...]
    """After any epoch."""
    attempts: int
    """That trained a shard to its end, beside the one that is committed."""
    shards: int
    """Those which have such attempts."""
    differing_attempts: tuple[str, ...]


Repeated = tuple[Commit, FinishedAttempt]
"""A commit, and another attempt of its shard that trained to its end."""


def audit(commits: Sequence[Commit], repeated: Sequence[Repeated]) -> Audit:
    """Compares the copies of BP trials with the trials, and repeated attempts with the commits."""
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
        shards=len({id(commit) for commit, _ in repeated}),
        differing_attempts=tuple(
            f"shard {commit.shard_id}: attempt {attempt.attempt_id} ({attempt.hostname}, "
            f"{attempt.device}) differs from the committed {commit.attempt_id} "
            f"({_ran_on(commit)})"
            for commit, attempt in repeated
            if attempt.result_digest != commit.result_digest
        ),
    )


def read_repeated(store: Store, beside: Sequence[tuple[str, Commit]]) -> tuple[Repeated, ...]:
    """The attempts beside the committed ones that trained to their end; what cannot be read is left
    out: it is no evidence.

    beside  the keys of such attempts, each with the commit of its shard
    """
    found = read_all(partial(read_attempt, store), (key for key, _ in beside))
    return tuple(
        (commit, attempt)
        for (_, commit), attempt in zip(beside, found, strict=True)
        if isinstance(attempt, FinishedAttempt)
    )


def _copies(commits: Sequence[Commit]) -> Iterator[tuple[str, Commit, Commit]]:
    """A BP trial, a commit with a copy of it, and the commit that holds it as a trial."""
    owners = {id: commit for commit in commits for id in commit.trial_ids if id in commit.twins}
    for commit in commits:
        for twin in commit.twins:
            owner = owners.get(twin)
            if owner is not None and owner is not commit:
                yield twin, commit, owner


def _ran_on(commit: Commit) -> str:
    return f"{commit.where.get('hostname')}, {commit.where.get('device')}"
