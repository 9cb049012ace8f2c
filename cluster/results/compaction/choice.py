"""Decides which compacted commits count. Nothing here reads a store.

Two collectors may have compacted the same shard, and a commit that was compacted may be deleted and
made anew by another attempt. So a compaction is never believed before the shards' own keys.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from pcworker.store.keys import SweepKeys

FEWEST = 50
"""Fewer commits are not compacted: they are read one by one until there are more, because many
small compactions would be no better than many small commits."""
LITTER_AGE = timedelta(days=1)
"""Files of this age that no record commits are of a collector that was killed."""
_TIME = "%Y%m%d%H%M%S"

CompactedCommit = tuple[str, str]
"""The ids of a compacted commit's shard and attempt."""


@dataclass(frozen=True)
class Listing:
    """What the keys below `shards/` say."""

    committed: frozenset[str]
    """The ids of the shards that have a commit."""
    attempts: Mapping[str, frozenset[str]]
    """The attempts of which there is a table or a record, by shard."""
    ended: tuple[tuple[str, str, str], ...]
    """The shard, the attempt and the key of every attempt that has trained to its end."""

    @property
    def sure(self) -> dict[str, str]:
        """The committed attempt by shard, where only one attempt has left anything."""
        several = {each: self.attempts.get(each, frozenset()) for each in self.committed}
        return {shard: next(iter(ids)) for shard, ids in several.items() if len(ids) == 1}


def listing_of(sweep: SweepKeys, keys: Iterable[str]) -> Listing:
    """Sorts the keys of a sweep's shards."""
    committed: set[str] = set()
    attempts: dict[str, set[str]] = {}
    ended = []
    for key in keys:
        of = sweep.parse(key)
        if of is None:
            continue
        if of.kind == "commit":
            committed.add(of.shard)
        elif of.kind in ("data", "attempt"):
            attempts.setdefault(of.shard, set()).add(of.attempt)
        if of.kind == "attempt":
            ended.append((of.shard, of.attempt, key))
    frozen = {shard: frozenset(ids) for shard, ids in attempts.items()}
    return Listing(frozenset(committed), frozen, tuple(ended))


def counting(
    compactions: Sequence[Sequence[CompactedCommit]], current: Mapping[str, str]
) -> list[list[int]]:
    """The places of those commits in each compaction that count: each shard once, in the first
    compaction that holds its current attempt.

    current  the committed attempt of each shard, where it is known
    """
    taken: set[str] = set()
    found: list[list[int]] = []
    for commits in compactions:
        mine = []
        for place, (shard, attempt) in enumerate(commits):
            if shard not in taken and current.get(shard) == attempt:
                taken.add(shard)
                mine.append(place)
        found.append(mine)
    return found


def compaction_id(now: datetime, random: str) -> str:
    """The id of a new compaction. Ids are in the order of time, as far as clocks agree.

    random  8 hex digits, because two collectors may begin in the same second
    """
    return f"{now.strftime(_TIME)}-{random}"


def litter(sweep: SweepKeys, keys: Sequence[str], now: datetime) -> list[str]:
    """Those keys below `compact/` that a killed collector has left: old files without a record."""
    parsed = {key: of for key in keys if (of := sweep.parse(key))}
    recorded = {of.compaction for of in parsed.values() if of.kind == "compaction"}
    oldest = (now - LITTER_AGE).strftime(_TIME)
    return [
        key
        for key, of in parsed.items()
        if of.kind == "compacted" and of.compaction not in recorded and of.compaction < oldest
    ]
