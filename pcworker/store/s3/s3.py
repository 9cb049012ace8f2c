"""Keeps a store in a bucket of S3, or of any server that speaks S3 and honours conditional writes.

A conditional write is never repeated blindly. If its answer is lost, the write may have succeeded.
The server would then refuse a second request, and the writer would wrongly conclude that another
writer was first. So after every unclear answer the key is read back, and its content decides.
"""

import io
import mimetypes
import re
import shlex
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlsplit

import boto3
import botocore.session
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.exceptions import ClientError
from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_random_exponential

from pcworker.errors import OverwritingError, StoreError, UnavailableError
from pcworker.store.keys import is_key, key_parts
from pcworker.store.s3.errors import S3_ERRORS, error_code, explained, http_status, may_pass

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_T = TypeVar("_T")

ATTEMPTS = 10
"""How often a request is tried. With the pauses, this takes about 15 s if the server is dead and
a minute if it is busy."""
CONNECT_SECONDS = 10
READ_SECONDS = 60
UPLOAD_BYTES = 64 * 2**20
"""A larger object is uploaded in parts of this size."""
LONGEST_PAUSE_SECONDS = 20
"""The longest pause between two tries of the requests that we repeat ourselves."""

BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,61}[A-Za-z0-9]")
"""The form of a bucket's name."""


class S3Store:
    """The objects below `s3://bucket/prefix`. boto3 finds the region and the credentials.

    endpoint  the address of a server other than AWS; AWS_ENDPOINT_URL_S3 or the profile may also
              name it
    """

    def __init__(self, url: str, endpoint: str | None = None) -> None:
        self._bucket, self._root = _bucket_and_prefix(url)
        self.url = "s3://" + "/".join([self._bucket, *self._root])
        self._endpoint = None if endpoint is None else _checked_endpoint(endpoint)
        self.options = f"--store {shlex.quote(self.url)}"
        if self._endpoint is not None:
            self.options += f" --s3-endpoint {shlex.quote(self._endpoint)}"
        self._server = self._endpoint or "S3"  # its name in messages
        with self._trouble("be opened"):
            try:
                core = botocore.session.Session()
                session = boto3.Session(botocore_session=core)
                self._attempts = int(core.get_config_variable("max_attempts") or ATTEMPTS)
                self._client = self._opened(session, self._attempts)
                self._single = self._opened(session, 1)
            except ValueError:
                # botocore's message is left out: it holds the value, perhaps with a password
                raise StoreError(
                    f"store {self.url}: AWS_ENDPOINT_URL_S3, AWS_MAX_ATTEMPTS or another setting "
                    "of AWS is malformed; check the environment and the profile"
                ) from None
        self._server = _checked_endpoint(self._client.meta.endpoint_url)

    def __reduce__(self) -> tuple[type["S3Store"], tuple[str, str | None]]:
        """Pickles the address alone: neither the client nor credentials travel."""
        return S3Store, (self.url, self._endpoint)

    def get(self, key: str) -> bytes | None:
        name = self._name(key)

        def attempt() -> bytes | None:
            try:
                answer = self._single.get_object(Bucket=self._bucket, Key=name)
            except ClientError as error:
                if error_code(error) == "NoSuchKey":
                    return None
                raise
            return answer["Body"].read()  # it may be cut off, and boto3 does not repeat that

        with self._trouble(f"read {key}"):
            return self._patiently(attempt)

    def put(self, key: str, data: bytes) -> None:
        name = self._name(key)
        # A browser shows a page only if the server says that it is one.
        kind = mimetypes.guess_type(key)[0] or "application/octet-stream"
        with self._trouble(f"write {key}"):
            if len(data) <= UPLOAD_BYTES:
                self._client.put_object(Bucket=self._bucket, Key=name, Body=data, ContentType=kind)
            else:
                parts = TransferConfig(
                    multipart_threshold=UPLOAD_BYTES, multipart_chunksize=UPLOAD_BYTES
                )
                self._client.upload_fileobj(
                    io.BytesIO(data),
                    self._bucket,
                    name,
                    Config=parts,
                    ExtraArgs={"ContentType": kind},
                )

    def put_if_absent(self, key: str, data: bytes) -> bool:
        name = self._name(key)
        unclear = False  # True if an earlier try may have written

        def attempt() -> bool:
            nonlocal unclear
            try:
                self._single.put_object(Bucket=self._bucket, Key=name, Body=data, IfNoneMatch="*")
                return True
            except S3_ERRORS as error:
                if http_status(error) == 412 and not unclear:
                    return False
                if not may_pass(error):
                    raise
                unclear = True
                found = self.get(key)
                if found is None:
                    raise
                return found == data

        with self._trouble(f"write {key}"):
            return self._patiently(attempt)

    def list(self, prefix: str) -> list[str]:
        name = self._name(prefix) + "/"
        keys: list[str] = []
        with self._trouble(f"list {prefix}"):
            pages = self._client.get_paginator("list_objects_v2")
            for page in pages.paginate(Bucket=self._bucket, Prefix=name):
                keys += (found["Key"] for found in page.get("Contents", ()))
        root = len("/".join([*self._root, ""]))
        # S3 has no folders. So a name may hold "..", and its web console marks an empty folder by
        # an object whose name ends with a slash. No store of ours reads such names.
        return sorted(filter(is_key, (key[root:] for key in keys)))

    def folders(self, prefix: str) -> Sequence[str]:
        name = self._name(prefix) + "/"
        found: set[str] = set()
        with self._trouble(f"list {prefix}"):
            pages = self._client.get_paginator("list_objects_v2")
            for page in pages.paginate(Bucket=self._bucket, Prefix=name, Delimiter="/"):
                found |= {each["Prefix"][len(name) : -1] for each in page.get("CommonPrefixes", ())}
        return sorted(filter(is_key, found))

    def delete(self, key: str) -> None:
        name = self._name(key)
        with self._trouble(f"delete {key}"):
            self._client.delete_object(Bucket=self._bucket, Key=name)

    def prune(self, prefix: str) -> None:
        """Does nothing: a bucket has no folders, and keeps nothing of a key that is gone."""

    def require_no_links(self, prefix: str) -> None:
        """Does nothing: a bucket has no links."""

    def describe(self, key: str) -> str:
        return f"s3://{self._bucket}/{self._name(key)}"

    def check(self) -> None:
        key = f"probe/{uuid.uuid4().hex}"
        self.list("probe/")  # comes before any write, because SeaweedFS makes a missing bucket then
        first = self.put_if_absent(key, b"1")
        try:
            if not first or self.put_if_absent(key, b"2") or self.get(key) != b"1":
                raise OverwritingError(
                    f"store {self.url}: {self._server} ignores If-None-Match: a write that must "
                    "not overwrite did, so that two workers could both commit a shard; use a "
                    "store that honours conditional writes (AWS S3 and SeaweedFS 4.48 do, the "
                    "gateway of JuiceFS 1.4.2 does not)"
                )
            if self.list("probe/").count(key) != 1:
                raise StoreError(
                    f"store {self.url}: {self._server} does not list what was just written; use a "
                    "store whose listings are up to date"
                )
        finally:
            self.delete(key)

    def clock(self) -> float | None:
        with self._trouble("list probe/"):
            name = self._name("probe/") + "/"
            found = self._client.list_objects_v2(Bucket=self._bucket, Prefix=name, MaxKeys=1)
        try:
            date = found["ResponseMetadata"]["HTTPHeaders"]["date"]
            return parsedate_to_datetime(date).timestamp()
        except (KeyError, ValueError):
            return None

    def _opened(self, session: boto3.Session, attempts: int) -> "S3Client":
        """A client that tries every request up to `attempts` times."""
        return session.client(
            "s3",
            endpoint_url=self._endpoint,
            config=Config(
                connect_timeout=CONNECT_SECONDS,
                read_timeout=READ_SECONDS,
                retries={"mode": "standard", "total_max_attempts": attempts},
                request_checksum_calculation="when_supported",
                response_checksum_validation="when_supported",
            ),
        )

    def _name(self, key: str) -> str:
        return "/".join([*self._root, *key_parts(key)])

    def _patiently(self, attempt: Callable[[], _T]) -> _T:
        """Repeats a request as often as boto3 would, with growing pauses.

        It is for the requests that boto3 must not repeat by itself (conditional writes), and for
        answers that are cut off, which boto3 does not repeat.
        """
        retrying = Retrying(
            stop=stop_after_attempt(self._attempts),
            wait=wait_random_exponential(multiplier=0.5, max=LONGEST_PAUSE_SECONDS),
            retry=retry_if_exception(may_pass),
            reraise=True,
        )
        return retrying(attempt)

    @contextmanager
    def _trouble(self, action: str) -> Iterator[None]:
        """Raises a StoreError in place of an error of boto3.

        action  what the store could not do, in the words that follow "cannot"
        """
        try:
            yield
        except S3_ERRORS as error:
            kind = UnavailableError if may_pass(error) else StoreError
            what = explained(error, self._server)
            raise kind(f"store {self.url}: cannot {action}: {what}") from error


def _bucket_and_prefix(url: str) -> tuple[str, list[str]]:
    bucket, _, prefix = url.removeprefix("s3://").rstrip("/").partition("/")
    if not url.startswith("s3://") or not BUCKET.fullmatch(bucket) or not prefix.isprintable():
        # the value is left out of the message: a secret may stand before an @
        raise StoreError("the store is no s3://bucket/prefix; credentials belong elsewhere")
    return bucket, key_parts(prefix) if prefix else []


def _checked_endpoint(endpoint: str) -> str:
    """Returns the endpoint. Raises StoreError if it is no URL of a server or holds a password.

    The message does not repeat the endpoint, because it may hold a secret.
    """
    remedy = "give http://host:port or https://host"
    try:
        parts = urlsplit(endpoint)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise StoreError(f"the S3 endpoint is no URL; {remedy}") from None
    if "@" in parts.netloc:
        raise StoreError(
            "the S3 endpoint holds a user or a password; leave them out and set "
            "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a profile"
        )
    if parts.scheme not in ("http", "https") or not host or parts.query or parts.fragment:
        raise StoreError(f"the S3 endpoint is no URL of a server; {remedy}")
    return endpoint
