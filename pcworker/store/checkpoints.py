"""Checkpoints of a shard: they are kept in the store, beside what the shard's attempts write.

Checkpoints save time, and no result depends on them. A shard that has none, or none that can be
used, is trained from the start.
"""

from collections.abc import Sequence

from pcworker.store.keys import SweepKeys
from pcworker.store.store import Store
from pcworker.training.checkpoint import Checkpoint, from_bytes, to_bytes
from pcworker.trials.trial import Trial


class Checkpoints:
    """The checkpoints of a shard: one of its attempts writes its own, and reads those of all."""

    def __init__(
        self,
        store: Store,
        keys: SweepKeys,
        shard_id: str,
        attempt_id: str,
        maker: str,
        trials: Sequence[Trial],
    ) -> None:
        """`maker` stands for everything that the bits depend on. A checkpoint of another maker is
        not used, so that no result mixes the roundings of two machines in torch's own sums."""
        self._store, self._keys = store, keys
        self._shard_id, self._attempt_id = shard_id, attempt_id
        self._maker, self._trials = maker, trials
        self._newest: str | None = None
        """The key of the checkpoint that this attempt saved last."""

    def latest(self) -> Checkpoint | None:
        """The checkpoint after most updates, of any attempt, that is undamaged and has our maker
        and our trials. None if there is none."""
        for key in self._found():
            data = self._store.get(key)
            if data is None:  # Its attempt has saved the next checkpoint meanwhile, or has ended.
                continue
            checkpoint = from_bytes(data, self._maker, self._trials)
            if checkpoint is not None:
                return checkpoint
        return None

    def save(self, checkpoint: Checkpoint) -> None:
        """Saves a checkpoint in the place of the one that this attempt saved before."""
        at = (checkpoint.epoch, checkpoint.done)
        key = self._keys.checkpoint(self._shard_id, self._attempt_id, *at)
        self._store.put(key, to_bytes(checkpoint, self._maker))
        if self._newest not in (None, key):
            self._store.delete(self._newest)
        self._newest = key

    def clear(self) -> None:
        """Deletes all checkpoints of the shard, those of other attempts too."""
        for key in self._found():
            self._store.delete(key)

    def _found(self) -> list[str]:
        """The keys of the checkpoints of all attempts. The one after most updates comes first."""
        keys = self._store.list(self._keys.attempts(self._shard_id))
        parsed = ((key, self._keys.parse(key)) for key in keys)
        found = [
            ([int(number) for number in of.epoch.split("-")], key)
            for key, of in parsed
            if of and of.kind == "checkpoint"
        ]
        return [key for _, key in sorted(found, reverse=True)]
