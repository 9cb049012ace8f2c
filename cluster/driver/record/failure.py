"""Makes the record of a failed attempt, which the collector turns into a row of `failures`."""

import socket
from datetime import UTC, datetime
from typing import Any

from cluster.driver.events import Failed
from cluster.sweeps.plan import Plan
from pcworker.store.tables import FailureRow
from pcworker.text import as_unicode

MOST_CHARACTERS = 100_000
"""The characters that a failure's record keeps of an error's message and of its traceback, whose
end says most."""


def failure_row(plan: Plan[Any], event: Failed) -> FailureRow:
    """Returns the record of an attempt that has ended now without a commit."""
    return FailureRow(
        sweep=plan.name,
        shard_id=event.shard.shard_id,
        attempt_id=event.attempt_id,
        kind=event.kind,
        quarantined=event.quarantined,
        error=as_unicode(event.error)[:MOST_CHARACTERS],
        traceback=as_unicode(event.traceback)[-MOST_CHARACTERS:],
        driver=socket.gethostname(),
        time=datetime.now(UTC).isoformat(timespec="seconds"),
        trial_ids=tuple(trial.trial_id for trial in event.shard.trials),
    )
