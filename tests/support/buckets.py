"""Tests of buckets share this: how a test enters a server, and a place of its own there."""

import uuid

import pytest
from seaweed import S3Server


def entered(server: S3Server, monkeypatch: pytest.MonkeyPatch) -> S3Server:
    """The server, after its endpoint and credentials were set where boto3 reads them."""
    for name, value in server.environment().items():
        monkeypatch.setenv(name, value)
    return server


def fresh_url(server: S3Server) -> str:
    """A place in the server's bucket that no other test uses."""
    return f"s3://{server.bucket}/{uuid.uuid4().hex}/deep"
