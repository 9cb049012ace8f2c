"""Decides whether tables are older than what the store holds, so that a slow collector leaves no
older ones than a fast collector.

Any number of collectors may write the same tables at the same time, and a store has no locks. The
commits decide whose tables stay. A collector lists them again before it writes its tables, and once
more after it has written them. If there are new ones, it starts over. Suppose that a slow collector
has replaced complete tables by tables with holes. Then all commits were there before it wrote, its
last list has them, and it writes complete tables. Only a collector that is killed in between leaves
the holes. The tables' metadata say how many there are, and the next collector fills them.
"""

from cluster.results.collect import Collected
from cluster.results.reading import can_be_read, list_failures, with_commit
from pcworker.store.store import Store

PASSES = 2
"""How often a collector starts if cells stay missing. Without a limit it would never end where
shards are committed all the time."""


def is_outdated(store: Store, collected: Collected, passes: int) -> bool:
    """True if the store holds other results than those that were collected, and they are worth
    another pass: for the first time, or because nothing is missing any more.

    passes  how often the collector has started so far
    """
    plans, before = collected.plans, collected.listed
    committed = {
        plan.keys.commit(shard.shard_id): shard
        for plan in plans
        for shard in with_commit(plan, store.list(plan.keys.shards))
    }
    failures = {key for plan in plans for key in list_failures(store, plan)}
    # The key of a commit that was deleted and made anew is not new.
    mended = [shard for plan, shard in collected.unread if can_be_read(store, plan, shard)]
    if not mended and before == committed.keys() | failures:
        return False
    new = [shard for key, shard in committed.items() if key not in before]
    found = {trial.trial_id for shard in (*new, *mended) for trial in shard.trials}
    missing = {trial.trial_id for trial in collected.missing}
    return passes < PASSES or (bool(missing) and missing <= found)
