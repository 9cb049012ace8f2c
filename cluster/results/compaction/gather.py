"""Brings what a sweep's shards have committed into files on this machine.

A commit is taken from a compaction, if one counts that holds it, and otherwise from its own files.
Where those are many, they are compacted, so that the next collector need not read them again. The
collector of another process may do the same at the same time: see `choice`.
"""

import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa

from cluster.results.compaction.choice import (
    FEWEST,
    Listing,
    compaction_id,
    counting,
    listing_of,
    litter,
)
from cluster.results.compaction.entries import COMMITS
from cluster.results.compaction.record import fetch_compaction, store_compaction
from cluster.results.compaction.source import Source, attempts_of, trials_of
from cluster.results.compaction.spool import Spool
from cluster.results.needed import Needed, everything
from cluster.results.reading import Unread, read_all, read_shard, read_shard_commit
from cluster.sweeps.plan import Plan, Shard
from pcworker.errors import DamagedError
from pcworker.store.store import Store


class Chosen(NamedTuple):
    """The entries of a source that count."""

    source: Source
    entries: Sequence[int]
    shards: Sequence[int]
    """The place in the plan of each entry's shard."""


@dataclass
class Holdings:
    """What the shards of one sweep have committed."""

    plan: Plan
    listing: Listing
    chosen: list[Chosen] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)
    """A line for each damaged object: its place, and what is wrong with it."""
    unread: list[Unread] = field(default_factory=list)
    """The shards to which the damaged objects belong."""


def gather(store: Store, plan: Plan, folder: Path, needed: Needed | None = None) -> Holdings:
    """Gathers what the plan's shards have committed in files below `folder`, which is the plan's
    alone.

    needed  what is read. If it is None, this is all, and it is compacted in the store, if many
            shards are not compacted yet. Otherwise nothing is written there.
    """
    compacts = needed is None
    needed = everything(plan.experiment.tables) if needed is None else needed
    made = Holdings(plan, listing_of(plan.keys, store.list(plan.keys.shards)))
    places = {shard.shard_id: place for place, shard in enumerate(plan.shards)}
    stored = store.list(plan.keys.compactions)
    for key in litter(plan.keys, stored, datetime.now(UTC)) if compacts else ():
        store.delete(key)  # A collector that was killed has left it.
    sources = list(_compactions(store, plan, needed, places, stored, folder))
    compacted = [attempts_of(source.entries) for source in sources]
    counts = counting(compacted, _current(store, plan, places, made.listing, compacted))
    for source, commits, entries in zip(sources, compacted, counts, strict=True):
        made.chosen.append(Chosen(source, entries, [places[commits[k][0]] for k in entries]))
    taken = {place for chosen in made.chosen for place in chosen.shards}
    left = [
        shard
        for place, shard in enumerate(plan.shards)
        if place not in taken and shard.shard_id in made.listing.committed
    ]
    for spool in _spooled(store, made, needed, left, folder):
        if len(left) >= FEWEST and compacts:
            store_compaction(store, plan.keys, spool.folder.name, spool.files)
        per_trial = plan.experiment.tables.per_trial
        source = Source(spool.folder, needed, tuple(needed), per_trial)
        shards = [places[shard] for shard, _ in attempts_of(source.entries)]
        made.chosen.append(Chosen(source, range(len(shards)), shards))
    return made


def _compactions(
    store: Store,
    plan: Plan,
    needed: Needed,
    places: Mapping[str, int],
    stored: Sequence[str],
    folder: Path,
) -> Iterator[Source]:
    """Yields the compactions that are whole, the oldest first.

    stored  the keys of all their files and records
    """
    keys, every = plan.keys, everything(plan.experiment.tables)
    whole = {name: every[name] for name in needed}
    for key in stored:
        of = keys.parse(key)
        if of is None or of.kind != "compaction":
            continue
        inner = folder / of.compaction
        files = (*every, COMMITS)
        if not fetch_compaction(store, keys, of.compaction, files, {*needed, COMMITS}, inner):
            continue
        try:
            source = Source(inner, whole, tuple(every), plan.experiment.tables.per_trial)
        except (ValueError, pa.ArrowException, OSError):
            continue
        if _are_of(plan, places, source):
            yield source


def _are_of(plan: Plan, places: Mapping[str, int], source: Source) -> bool:
    """True if all entries are of the plan's shards and have the trials of these."""
    for shard_id, trial_ids in trials_of(source.entries).items():
        place = places.get(shard_id)
        if place is None:
            return False
        if sorted(trial_ids) != sorted(trial.trial_id for trial in plan.shards[place].trials):
            return False
    return True


def _current(
    store: Store,
    plan: Plan,
    places: Mapping[str, int],
    listing: Listing,
    compacted: Iterable[Sequence[tuple[str, str]]],
) -> dict[str, str]:
    """The committed attempt of each shard. Commits are read again where the keys do not tell."""
    current = listing.sure
    held = {shard for commits in compacted for shard, _ in commits}
    unsure = sorted((held & listing.committed) - current.keys())
    shards = [plan.shards[places[shard]] for shard in unsure]
    for found in read_all(partial(read_shard_commit, store, plan), shards):
        if found is not None and not isinstance(found, DamagedError):
            current[found.shard_id] = found.attempt_id
    return current


def _spooled(
    store: Store, made: Holdings, needed: Needed, left: Sequence[Shard], folder: Path
) -> Iterator[Spool]:
    """Reads the shards `left`, and yields each spool of them that is full, or the last one."""
    plan, spool = made.plan, None
    read = partial(read_shard, store, plan, needed=needed)
    for shard, found in zip(left, read_all(read, left), strict=True):
        if isinstance(found, DamagedError):
            made.damaged.append(str(found))
            made.unread.append((plan, shard))
        elif found is not None:
            spool = spool or Spool(folder / _new_id(), needed)
            spool.add(*found)
            if spool.full:
                spool.close()
                yield spool
                spool = None
    if spool is not None:
        spool.close()
        yield spool


def _new_id() -> str:
    return compaction_id(datetime.now(UTC), secrets.token_hex(4))
