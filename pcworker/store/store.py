"""Where results are kept: bytes under keys, with one conditional write.

`put_if_absent` is the only operation that two writers may race on, and exactly one of them wins.
"""

import re
from pathlib import Path
from typing import Protocol

from pcworker.errors import StoreError


class Store(Protocol):
    """Bytes under keys such as `sweeps/a/plan.json`. Every method raises StoreError on trouble,
    and its subclass UnavailableError where waiting may help.

    A store that is pickled travels as its address, and opens itself anew where it arrives."""

    url: str
    """What `open_store` makes this store from."""
    options: str
    """The options by which a command line names this store."""

    def get(self, key: str) -> bytes | None:
        """The bytes under `key`, or None where there are none."""

    def put(self, key: str, data: bytes) -> None:
        """Replaces what is under `key`; readers see all of the old or all of the new."""

    def put_if_absent(self, key: str, data: bytes) -> bool:
        """Writes only where nothing is under `key` yet; False where there was.

        Two writers of the same bytes may both be told True, so `data` names its writer."""

    def list(self, prefix: str) -> list[str]:
        """The keys that start with `prefix`, sorted. `prefix` ends with a slash."""

    def delete(self, key: str) -> None:
        """Removes `key`; where nothing is under it, nothing happens."""

    def prune(self, prefix: str) -> None:
        """Removes what a store keeps of keys that are gone: folders, if it has such. Nobody may
        write under `prefix` meanwhile."""

    def describe(self, key: str) -> str:
        """Where a person finds `key`."""

    def check(self) -> None:
        """Raises StoreError unless all the above works here, OverwritingError where only the
        condition of `put_if_absent` is ignored."""

    def clock(self) -> float | None:
        """The server's time in whole seconds since the epoch; None where there is no server."""


def open_store(url: str, s3_endpoint: str | None = None) -> Store:
    """The store at `url`: `s3://bucket/prefix`, or a directory, which is made if need be.

    s3_endpoint  of a server that is not AWS's
    """
    if url.startswith("s3://"):
        from pcworker.store.s3 import S3Store  # boto3 takes a moment to import

        return S3Store(url, s3_endpoint)
    if scheme := re.match(r"[A-Za-z][A-Za-z0-9+.-]*:/", url):
        # without what follows: it may hold a password
        raise StoreError(f"store {scheme[0]}...: give a directory, or s3://bucket/prefix")
    if s3_endpoint is not None:
        raise StoreError(f"store {url} is a directory, and has no S3 endpoint; give s3://...")
    from pcworker.store.local import LocalStore

    return LocalStore(Path(url))
