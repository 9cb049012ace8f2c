"""A store keeps results as bytes under keys, and has one conditional write.

`put_if_absent` is the only operation on which two writers may race, and exactly one of them wins.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from pcworker.errors import StoreError


class Store(Protocol):
    """Bytes under keys such as `sweeps/a/plan.json`. Every method raises StoreError if the store is
    in trouble, and the subclass UnavailableError if waiting may help.

    A pickled store holds its address only: it opens the store anew where it is unpickled."""

    url: str
    """The address from which `open_store` makes this store."""
    options: str
    """The command-line options that name this store."""

    def get(self, key: str) -> bytes | None:
        """Returns the bytes under `key`, or None if there are none."""

    def put(self, key: str, data: bytes) -> None:
        """Replaces the bytes under `key`. A reader sees either all old bytes or all new ones."""

    def put_if_absent(self, key: str, data: bytes) -> bool:
        """Writes if nothing is under `key` yet. Returns False if something was.

        Two writers of the same bytes may both get True, so `data` must name its writer."""

    def list(self, prefix: str) -> list[str]:
        """Returns the keys that start with `prefix`, sorted. `prefix` ends with a slash."""

    def folders(self, prefix: str) -> Sequence[str]:
        """Returns the names that stand between `prefix` and the next slash of a key, sorted. It is
        quick however many keys there are. `prefix` ends with a slash."""

    def delete(self, key: str) -> None:
        """Removes `key`. Nothing happens if nothing is under it."""

    def prune(self, prefix: str) -> None:
        """Removes what the store still keeps of deleted keys, such as empty folders. Nobody may
        write under `prefix` meanwhile."""

    def require_no_links(self, prefix: str) -> None:
        """Raises StoreError if the folder of `prefix` is a link or holds one. What is deleted
        behind a link would be missing elsewhere."""

    def describe(self, key: str) -> str:
        """Returns the place at which a person finds `key`."""

    def check(self) -> None:
        """Raises StoreError unless all operations above work here, and OverwritingError if the
        store only ignores the condition of `put_if_absent`."""

    def clock(self) -> float | None:
        """Returns the server's time in whole seconds since 1970. None if there is no server."""


def open_store(url: str, s3_endpoint: str | None = None) -> Store:
    """Opens the store at `url`: `s3://bucket/prefix`, or a directory, which is created if it does
    not exist.

    s3_endpoint  the address of an S3 server that is not AWS's
    """
    if url.startswith("s3://"):
        from pcworker.store.s3.s3 import S3Store  # boto3 is slow to import.

        return S3Store(url, s3_endpoint)
    if scheme := re.match(r"[A-Za-z][A-Za-z0-9+.-]*:/", url):
        # The rest of the address is not printed, because it may hold a password.
        raise StoreError(f"store {scheme[0]}...: give a directory, or s3://bucket/prefix")
    if s3_endpoint is not None:
        raise StoreError(f"store {url} is a directory, and has no S3 endpoint; give s3://...")
    from pcworker.store.local import LocalStore

    return LocalStore(Path(url))
