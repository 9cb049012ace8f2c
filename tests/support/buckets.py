"""Tests of buckets share this: no AWS settings of the user, and a prefix for each test."""

import os
import uuid
from pathlib import Path

import pytest
from seaweed import S3Server

ATTEMPTS = 4


def own_settings(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hides the user's own AWS settings from boto3, and has it try ATTEMPTS times."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(folder / "no-config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(folder / "no-credentials"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", str(ATTEMPTS))


def entered(server: S3Server, monkeypatch: pytest.MonkeyPatch) -> S3Server:
    """The server, after its endpoint and credentials were set where boto3 reads them."""
    for name, value in server.environment().items():
        monkeypatch.setenv(name, value)
    return server


def fresh_url(server: S3Server) -> str:
    """A place in the server's bucket that no other test uses."""
    return f"s3://{server.bucket}/{uuid.uuid4().hex}/deep"
