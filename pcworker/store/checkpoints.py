"""Where a shard's checkpoints are kept: in the store, beside what its attempts write.

They save time and decide nothing: a shard without any, or whose checkpoints cannot be used, is
trained from the start.
"""

from collections.abc import Sequence

from pcworker.store.keys import SweepKeys
from pcworker.store.store import Store
from pcworker.training.checkpoint import Checkpoint, from_bytes, to_bytes
from pcworker.trials.trial import Trial


class Checkpoints:
    """The checkpoints of a shard, as one of its attempts writes and reads them."""

    def __init__(
        self,
        store: Store,
        keys: SweepKeys,
        shard_id: str,
        attempt_id: str,
        maker: str,
        trials: Sequence[Trial],
    ) -> None:
        """`maker` names all that bits depend on: device, libraries, sources. A checkpoint of
        another maker is not used, so that no result mixes two machines' roundings."""
        self._store, self._keys = store, keys
        self._shard_id, self._attempt_id = shard_id, attempt_id
        self._maker, self._trials = maker, trials
        self._newest: str | None = None
        """Key of what this attempt saved last."""

    def latest(self) -> Checkpoint | None:
        """The one of most epochs, of any attempt, that is whole, our maker's and of our trials."""
        for key in self._found():
            data = self._store.get(key)
            if data is None:  # its attempt has saved the next one, or ended
                continue
            checkpoint = from_bytes(data, self._maker, self._trials)
            if checkpoint is not None:
                return checkpoint
        return None

    def save(self, checkpoint: Checkpoint) -> None:
        """In the place of what this attempt saved before."""
        key = self._keys.checkpoint(self._shard_id, self._attempt_id, checkpoint.epoch)
        self._store.put(key, to_bytes(checkpoint, self._maker))
        if self._newest not in (None, key):
            self._store.delete(self._newest)
        self._newest = key

    def clear(self) -> None:
        """Deletes all checkpoints of the shard, of every attempt."""
        for key in self._found():
            self._store.delete(key)

    def _found(self) -> list[str]:
        """Keys of all attempts' checkpoints; the one of most epochs first."""
        keys = self._store.list(self._keys.attempts(self._shard_id))
        parsed = ((key, self._keys.parse(key)) for key in keys)
        found = [(int(of.epoch), key) for key, of in parsed if of and of.kind == "checkpoint"]
        return [key for _, key in sorted(found, reverse=True)]
