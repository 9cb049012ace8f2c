"""A Ray cluster on this machine: a head without CPUs, and nodes that tests add and kill.

Every node has a loopback address of its own. The cluster is in token mode: only processes that can
read the token, in the cluster's folder, can use it. The processes of a node are found by a mark
that they inherit in their environment, so that a killed node leaves none behind.
"""

import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PATIENCE_S = 240.0
MARK = "ZILSWEEP_TEST_NODE"
HEAD = "127.0.0.2"
NO_IDLE_WORKERS = {"RAY_prestart_worker_first_driver": "0"}
"""With this Ray starts no processes in advance, of which a test would use only some."""


@dataclass(frozen=True)
class Node:
    """A running node."""

    mark: str
    address: str


class RayCluster:
    """A cluster as the module's docstring describes it."""

    dashboard_host = "127.0.0.1"
    auth_mode = "token"

    def __init__(self, folder: Path, extra: Mapping[str, str]) -> None:
        """
        folder  a folder with a short path, because it holds Ray's sockets, whose paths are limited
        extra   environment variables for every node
        """
        self.folder, self._extra = folder, dict(extra)
        self.nodes: list[Node] = []
        """All nodes except the head."""
        self._head: Node | None = None
        self._count = 0
        gcs, dashboard = free_ports(2)
        self.address = f"{HEAD}:{gcs}"
        self.dashboard = f"http://127.0.0.1:{dashboard}"
        self.token = folder / "token"
        self.token.write_text(secrets.token_hex(32))

    def environment(self) -> dict[str, str]:
        """The environment variables for a process that uses this cluster."""
        return {
            **clean_environment(self.folder),
            # A job runs the `python` that its node finds first. Here it is the one of the tests.
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "RAY_AUTH_MODE": self.auth_mode,
            "RAY_AUTH_TOKEN_PATH": str(self.token),
            "RAY_API_SERVER_ADDRESS": self.dashboard,
            **self._extra,
        }

    def start(self) -> None:
        """Starts the head, without CPUs and GPUs."""
        self._start_head()

    def _start_head(self, *options: str, extra: Mapping[str, str] | None = None) -> None:
        host, gcs = self.address.split(":")
        _, dashboard = self.dashboard.rsplit(":", 1)
        [client] = free_ports(1)
        self._head = self._started(
            host, "--head", "--port", gcs, "--dashboard-host", self.dashboard_host,
            "--dashboard-port", dashboard, "--ray-client-server-port", str(client),
            "--num-cpus", "0", "--num-gpus", "0", *options, extra=extra,
        )  # fmt: skip

    def add(self, cpus: int = 1, gpus: int = 0, extra: Mapping[str, str] | None = None) -> Node:
        """Starts a node. Its GPUs need not exist: to Ray they are only a number.

        extra  environment variables for this node only
        """
        self._count += 1
        has = ("--num-cpus", str(cpus), "--num-gpus", str(gpus))
        node = self._started(f"127.0.1.{self._count}", "--address", self.address, *has, extra=extra)
        self.nodes.append(node)
        return node

    def wait(self) -> None:
        """Waits until Ray knows which nodes are alive."""

        def known() -> bool:
            nodes = self.ask("/nodes?view=summary")["data"]["summary"]
            alive = [node["ip"] for node in nodes if node["raylet"]["state"] == "ALIVE"]
            return sorted(alive) == sorted([HEAD, *(node.address for node in self.nodes)])

        assert wait_until(known)

    def ask(self, path: str) -> Any:
        """Asks the dashboard for `path`, and returns the JSON of its answer."""
        token = {"Authorization": f"Bearer {self.token.read_text()}"}
        request = urllib.request.Request(self.dashboard + path, headers=token)
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)

    def drain(self, node_id: str, seconds: int) -> None:
        """Tells Ray that the node of this id will be taken away in so many seconds. It does not
        take it away: Ray ends the node by itself when nothing runs there any more."""
        command = [
            *(sys.executable, "-m", "ray.scripts.scripts", "drain-node"),
            *("--address", self.address, "--node-id", node_id),
            *("--reason", "DRAIN_NODE_REASON_PREEMPTION", "--reason-message", "a test"),
            *("--deadline-remaining-seconds", str(seconds)),
        ]
        subprocess.run(
            command, env=self.environment(), cwd=self.folder, stdin=subprocess.DEVNULL,
            capture_output=True, check=True, timeout=PATIENCE_S,
        )  # fmt: skip

    def kill(self, node: Node) -> None:
        """Kills every process of the node at once, as if its machine were switched off."""
        self.nodes.remove(node)
        kill_marked(node.mark)

    def stop(self) -> None:
        """Kills all nodes and the head, and returns when their processes are gone."""
        for node in [*self.nodes]:
            self.kill(node)
        if self._head is not None:
            kill_marked(self._head.mark)
            self._head = None

    def _started(self, address: str, *options: str, extra: Mapping[str, str] | None = None) -> Node:
        node = Node(secrets.token_hex(8), address)
        [agent] = free_ports(1)
        command = [
            *(sys.executable, "-m", "ray.scripts.scripts", "start", *options),
            *("--node-ip-address", address, "--dashboard-agent-listen-port", str(agent)),
            *("--object-store-memory", str(150 * 2**20), "--disable-usage-stats"),
            *("--min-worker-port", "0", "--max-worker-port", "0"),
            *("--include-log-monitor", "false"),  # no driver asks for the workers' output
            # Each node has its own folder. In a common one, nodes replace the files of one another.
            *("--temp-dir", str(self.folder / address.replace(".", ""))),
        ]
        timing = {  # with these, Ray notices within seconds that a node is lost
            "RAY_health_check_initial_delay_ms": "500",
            "RAY_health_check_period_ms": "1000",
        }
        # No Python here writes a __pycache__, so one in a job's working directory has been shipped.
        marked = {**self.environment(), MARK: node.mark, "PYTHONDONTWRITEBYTECODE": "1"}
        marked |= timing | dict(extra or {})
        with (self.folder / "start.log").open("ab") as log:
            try:
                subprocess.run(
                    command, env=marked, cwd=self.folder, stdin=subprocess.DEVNULL,
                    stdout=log, stderr=log, check=True, timeout=PATIENCE_S, start_new_session=True,
                )  # fmt: skip
            except BaseException:
                kill_marked(node.mark)
                raise
        return node


class OpenRayCluster(RayCluster):
    """A cluster that anybody can use: it needs no token, and its dashboard listens on all addresses
    of this machine."""

    dashboard_host = "0.0.0.0"
    auth_mode = "disabled"


@contextmanager
def ray_cluster(
    kind: type[RayCluster] = RayCluster, extra: Mapping[str, str] | None = None
) -> Iterator[RayCluster]:
    """A cluster whose head runs. Afterwards the head, all nodes and the folder are removed."""
    with short_folder() as folder:
        cluster = kind(folder, extra or {})
        try:
            cluster.start()
            yield cluster
        finally:
            cluster.stop()


@contextmanager
def short_folder() -> Iterator[Path]:
    """An empty folder whose path is short enough for Ray's sockets. It is removed afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="zil", dir="/tmp"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)  # processes of Ray that are ending may write here


def clean_environment(home: Path) -> dict[str, str]:
    """This process's environment variables without those of Ray and AWS. HOME is the folder `home`,
    but the digits still come from the real user's cache."""
    said = ("RAY_", "AWS_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(said)}
    kept.setdefault("XDG_CACHE_HOME", str(Path.home() / ".cache"))
    nothing = str(home / "none")
    return kept | {
        **NO_IDLE_WORKERS,
        "HOME": str(home),
        "AWS_CONFIG_FILE": nothing,
        "AWS_SHARED_CREDENTIALS_FILE": nothing,
        "AWS_EC2_METADATA_DISABLED": "true",
    }


def free_ports(count: int) -> list[int]:
    """Free ports that are below those which Ray and outgoing connections take."""
    found: list[int] = []
    while len(found) < count:
        port = secrets.SystemRandom().randrange(22_000, 32_000)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("", port))
            found.append(port)
    return found


def marked(mark: str) -> list[int]:
    """The numbers of the living processes that have inherited this mark."""
    wanted = f"{MARK}={mark}".encode()
    found = []
    for entry in Path("/proc").iterdir():
        with suppress(OSError, ValueError):
            pid = int(entry.name)
            if wanted in (entry / "environ").read_bytes().split(b"\0"):
                found.append(pid)
    return [pid for pid in found if pid != os.getpid()]


def kill_marked(mark: str) -> None:
    """Kills all processes with this mark, including those that are just being started."""

    def none_left() -> bool:
        pids = marked(mark)
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return not pids

    assert wait_until(none_left), f"processes of {mark} cannot be killed"


def wait_until(
    condition: Callable[[], bool],
    process: "subprocess.Popen[str] | None" = None,
    patience: float = PATIENCE_S,
    every: float = 0.05,
) -> bool:
    """Waits until `condition` is true, for `patience` seconds at most and not after `process` has
    ended. Returns whether it became true.

    every  the seconds between two looks
    """
    deadline = time.monotonic() + patience
    pause = threading.Event()
    while not (met := condition()) and time.monotonic() < deadline:
        if process is not None and process.poll() is not None:
            return condition()
        pause.wait(every)
    return met
