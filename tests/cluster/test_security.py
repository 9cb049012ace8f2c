"""Tests of who can reach a sweep, which secrets it gives away, and what a forged store can do.

A sweep on a local Ray is watched while it runs: every socket of every process that it starts, and
every byte that it leaves. The other tests forge stores. Their names and plans lead outside, and
their objects are pickles.
"""

import ast
import io
import os
import pickle
import secrets
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import ablation, collected, commit_all, name_columns, planned, rewrite
from command_lines import Ended, called
from moto_server import moto_server
from ray_clusters import (
    MARK,
    PATIENCE_S,
    clean_environment,
    kill_marked,
    marked,
    short_folder,
    wait_until,
)
from seaweed import seaweed

from cluster.sweeps.columns import shards_to_parquet
from cluster.sweeps.plan import Plan, Shard
from jobs.mnist_ablation.sweep import mnist_ablation
from pcworker.errors import DamagedError, InputError
from pcworker.store.keys import SweepKeys
from pcworker.store.local import LocalStore
from pcworker.training.checkpoint import sealed

pytestmark = pytest.mark.faults

ROOT = Path(__file__).resolve().parents[2]
CELL = ("--t", "l", "--gamma", "1", "--sigma", "0", "--batch-size", "100")
SWEEP = ("--networks", "784-16-10,784-32-10", *CELL)


@dataclass
class Watched:
    """A sweep that has ended, and what was seen of it while it ran."""

    code: int = -1
    said: str = ""
    listening: set[str] = field(default_factory=set)
    """The addresses, with ports, at which its processes listened."""
    raylets: dict[str, str] = field(default_factory=dict)
    """The environment variables of a raylet of its Ray."""
    unauthorized: str = ""
    """The exit code and the output of a client that called the sweep's Ray without the token."""
    left: dict[str, bytes] = field(default_factory=dict)
    """All files of its Ray session and its home, by path, and all objects in the store."""


@dataclass(frozen=True)
class Planted:
    """Random credentials, which can be recognised wherever they appear."""

    access: str = field(default_factory=lambda: "AKIA" + secrets.token_hex(8).upper())
    secret: str = field(default_factory=lambda: secrets.token_hex(20))
    session: str = field(default_factory=lambda: secrets.token_hex(40))

    def environment(self, endpoint: str) -> dict[str, str]:
        return {
            "AWS_ACCESS_KEY_ID": self.access,
            "AWS_SECRET_ACCESS_KEY": self.secret,
            "AWS_SESSION_TOKEN": self.session,
            "AWS_ENDPOINT_URL_S3": endpoint,
            "AWS_DEFAULT_REGION": "us-east-1",
        }

    def found_in(self, content: bytes) -> bool:
        return any(one.encode() in content for one in (self.access, self.secret, self.session))


def job(module: str, *options: str, **environment: str) -> Ended:
    """Runs a command in this process."""
    with pytest.MonkeyPatch.context() as to:
        for name, value in environment.items():
            to.setenv(name, value)
        return called(*options, module=module)


def says_one_line(done: Ended, *parts: str) -> None:
    assert done.code == 2, done.stdout + done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    assert all(part in done.stderr for part in parts), done.stderr


# ---------------------------------------------------------------- a sweep in local mode


@pytest.fixture(scope="module")
def planted() -> Planted:
    return Planted()


@pytest.fixture(scope="module")
def watched(planted: Planted) -> Iterator[Watched]:
    """A sweep whose store is in S3, and whose environment holds secrets."""
    seen, mark = Watched(), secrets.token_hex(8)
    with short_folder() as home, moto_server() as server, (home / "said").open("w+") as said:
        environment = {
            **clean_environment(home),
            **planted.environment(server.endpoint),
            "RAY_TMPDIR": str(home / "tmp"),
            MARK: mark,
        }
        store = f"s3://{server.bucket}/watched"
        command = [sys.executable, "-m", "jobs.mnist_ablation", "--store", store, *SWEEP]
        command += ["--workers", "1"]
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=said,
            stderr=said, text=True,
        )  # fmt: skip

        def look() -> bool:
            pids = marked(mark)
            seen.listening |= {address for pid in pids for address in listening(pid)}
            for pid in pids:
                if not seen.raylets and _name(pid) == "raylet":
                    seen.raylets = _environment(pid)
                    seen.unauthorized = _knock(pid, home)
            return False

        try:
            wait_until(look, process, every=0.25)
            seen.code = process.wait(timeout=PATIENCE_S)
        finally:
            process.kill()
            process.wait()
            kill_marked(mark)  # some processes of its Ray are still ending
        said.seek(0)
        seen.said = said.read()
        seen.left = {str(p): p.read_bytes() for p in home.rglob("*") if p.is_file()}
        client = server.client()
        for page in client.get_paginator("list_objects_v2").paginate(Bucket=server.bucket):
            for key in (found["Key"] for found in page.get("Contents", ())):
                body = client.get_object(Bucket=server.bucket, Key=key)["Body"].read()
                seen.left[f"s3: {key}"] = body
        yield seen


def listening(pid: int) -> set[str]:
    """The addresses at which a process listens."""
    sockets = set()
    with suppress(OSError):
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(OSError):
                sockets.add(os.readlink(descriptor))
    found = set()
    for table in ("tcp", "tcp6"):
        with suppress(OSError):
            for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
                _, local, _, state, *_, inode = line.split()[:10]
                if state == "0A" and f"socket:[{inode}]" in sockets:
                    found.add(_readable(local))
    return found


def _readable(address: str) -> str:
    """Reads an address of `/proc/net`: words of four bytes, each in this machine's byte order."""
    words, port = address.split(":")
    raw = b"".join(bytes.fromhex(words[k : k + 8])[::-1] for k in range(0, len(words), 8))
    return f"{ip_address(raw)} {int(port, 16)}"


def _is_loopback(address: str) -> bool:
    ip = ip_address(address.split(" ")[0])
    mapped = getattr(ip, "ipv4_mapped", None)
    return (mapped or ip).is_loopback


def _name(pid: int) -> str:
    with suppress(OSError):
        return Path(f"/proc/{pid}/comm").read_text().strip()
    return ""


def _environment(pid: int) -> dict[str, str]:
    entries = Path(f"/proc/{pid}/environ").read_bytes().decode().split("\0")
    return dict(entry.split("=", 1) for entry in entries if "=" in entry)


def _knock(raylet: int, home: Path) -> str:
    """Sends a request without a token to the Ray of this raylet. Returns how it ended."""
    options = Path(f"/proc/{raylet}/cmdline").read_text().split("\0")
    [address] = (o.split("=", 1)[1] for o in options if o.startswith("--gcs-address="))
    ask = (
        "import sys; from ray._raylet import GcsClient; "
        "print(GcsClient(sys.argv[1]).internal_kv_keys(b'', b'x', timeout=20))"
    )
    done = subprocess.run(
        [sys.executable, "-c", ask, address],
        env={**clean_environment(home), "RAY_AUTH_MODE": "disabled"},
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=PATIENCE_S,
    )  # fmt: skip
    return f"exit code {done.returncode}: {done.stdout}{done.stderr}"


def test_a_local_sweep_listens_on_the_loopback_interface_only(watched: Watched) -> None:
    assert watched.code == 0, watched.said
    assert len(watched.listening) > 3  # Ray's own servers were seen
    assert [address for address in watched.listening if not _is_loopback(address)] == []


def test_a_local_ray_asks_for_a_token_and_reports_to_nobody(watched: Watched) -> None:
    assert watched.raylets["RAY_AUTH_MODE"] == "token"
    assert watched.raylets["RAY_USAGE_STATS_ENABLED"] == "0"
    assert "exit code 0" not in watched.unauthorized
    assert "Unauthenticated" in watched.unauthorized or "token" in watched.unauthorized


def test_credentials_are_nowhere_in_what_a_sweep_leaves(watched: Watched, planted: Planted) -> None:
    assert watched.code == 0, watched.said
    assert not planted.found_in(watched.said.encode())
    names = sorted(watched.left)
    assert any("/logs/" in name for name in names)  # Ray's logs were looked at
    assert any(name.endswith("/commit.json") for name in names)
    assert [name for name in names if planted.found_in(watched.left[name])] == []


def test_the_token_of_a_local_ray_is_for_its_owner_only(watched: Watched) -> None:
    tokens = [name for name in watched.left if name.endswith("/.ray/auth_token")]
    assert len(tokens) == 1
    token = watched.left[tokens[0]].strip()
    assert len(token) >= 32
    assert [n for n, data in watched.left.items() if n not in tokens and token in data] == []


def test_wrong_credentials_are_one_line_that_does_not_repeat_them(tmp_path: Path) -> None:
    wrong = Planted()
    with seaweed(tmp_path / "server") as running:
        environment = wrong.environment(running.server.endpoint)
        without_session = {n: v for n, v in environment.items() if n != "AWS_SESSION_TOKEN"}
        unknown = {**without_session, "AWS_ACCESS_KEY_ID": running.server.access_key}
        for given in (environment, without_session, unknown):
            refused = job(
                "jobs.mnist_ablation", "--store", f"s3://{running.server.bucket}/x", *SWEEP, **given
            )
            says_one_line(refused, "store s3://")
            said = (refused.stdout + refused.stderr).encode()
            assert not wrong.found_in(said)
            assert running.server.secret_key.encode() not in said


ENDPOINTS = ("http://user:{}@127.0.0.1:9", "https://{}@host", "http://127.0.0.1:9?key={}")


@pytest.mark.parametrize("endpoint", ENDPOINTS)
@pytest.mark.parametrize("by", ["option", "environment"])
def test_an_endpoint_with_a_password_is_refused_and_not_repeated(endpoint: str, by: str) -> None:
    password = secrets.token_hex(12)
    url, environment = endpoint.format(password), Planted().environment("")
    given = ["--s3-endpoint", url] if by == "option" else []
    environment["AWS_ENDPOINT_URL_S3"] = url if by == "environment" else "http://127.0.0.1:9"
    store = ("--store", "s3://bucket/x")
    refused = job("jobs.mnist_ablation", *store, *given, *SWEEP, "--plan", **environment)
    says_one_line(refused, "endpoint")
    assert password not in refused.stdout + refused.stderr


# ---------------------------------------------------------------- names and plans that lead outside

OUTSIDE = ("../x", "a/b", "..", "/x", "a\\..\\b", "")


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[Path]:
    """A folder for a store. The test fails if anything beside this folder has changed."""
    (tmp_path / "store").mkdir()
    (tmp_path / "victim").mkdir()
    (tmp_path / "victim" / "commit.json").write_text("a secret")
    yield tmp_path / "store"
    (tmp_path / "store").rename(tmp_path / "looked at")
    shutil.rmtree(tmp_path / "looked at")
    left = {str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file()}
    assert left == {"victim/commit.json"}
    assert (tmp_path / "victim" / "commit.json").read_text() == "a secret"


@pytest.mark.parametrize("name", OUTSIDE)
def test_a_sweep_has_a_plain_name(kept: Path, name: str) -> None:
    for command in (
        ("jobs.mnist_ablation", *SWEEP),
        ("jobs.collect",),
        ("jobs.status",),
    ):
        refused = job(*command, "--store", str(kept), "--sweep", name)
        says_one_line(refused, "sweep name", "letters, digits")
    assert not list(kept.rglob("*"))


SHARDS = ("../../../../victim", "..", "a/../../../../victim", "/victim", "x/../../../../../victim")


def renamed(plan: Plan, shard_id: str) -> tuple[Shard, ...]:
    """The shards of a plan, the first of which has another id."""
    return replace(plan.shards[0], shard_id=shard_id), *plan.shards[1:]


def test_a_plan_that_names_a_file_outside_is_not_followed_there(kept: Path) -> None:
    store = LocalStore(kept)
    plan = planned(store, ablation(), "forged")
    for sha256 in ("../../../victim/", "/../../victim/commit", "0" * 15 + "/" + "0" * 48):
        columns = {"columns": {"sha256": sha256, "size": 8}}
        rewrite(store, plan.keys.plan, lambda body, columns=columns: body | columns)
        with pytest.raises(DamagedError) as caught:
            collected(store, "forged")
        assert "secret" not in str(caught.value)


@pytest.mark.parametrize("shard_id", SHARDS)
def test_a_plan_whose_shards_lead_outside_is_not_followed_there(kept: Path, shard_id: str) -> None:
    store = LocalStore(kept)
    plan = planned(store, ablation(), "forged")
    name_columns(store, plan.keys, shards_to_parquet(renamed(plan, shard_id)))
    with suppress(InputError):  # it is refused, or that shard has no results
        result = collected(store, "forged")
        assert len(result.missing) == len(plan.trials)
        assert "secret" not in str(result.damaged)


def test_a_plan_whose_shards_lead_outside_is_not_run_there(kept: Path) -> None:
    store = LocalStore(kept)
    plan = planned(store, one_cell(epochs=1), "forged")
    name_columns(store, plan.keys, shards_to_parquet(renamed(plan, "../../../../victim")))
    refused = job(*sweep_of_one_cell(kept, "forged", 1))
    says_one_line(refused)


def test_a_commit_that_names_files_outside_is_not_followed_there(kept: Path) -> None:
    store = LocalStore(kept)
    plan = planned(store, ablation(), "forged")
    commit_all(store, plan)
    keys, shard = SweepKeys("forged"), plan.shards[0].shard_id

    def other_attempt(body: dict[str, Any]) -> dict[str, Any]:
        body["attempt_id"] = "../../../../../../victim"
        for file in body["files"]:
            file["key"] = keys.data(shard, body["attempt_id"], file["table"])
        return body

    def other_files(body: dict[str, Any]) -> dict[str, Any]:
        for file in body["files"]:
            file["key"] = "../victim/commit.json"
        return body

    whole = store.get(keys.commit(shard)) or b""
    for forge in (other_attempt, other_files):
        store.put(keys.commit(shard), whole)
        rewrite(store, keys.commit(shard), forge)
        with suppress(InputError):
            result = collected(store, "forged")
            assert {t.trial_id for t in result.missing} == {
                t.trial_id for t in plan.shards[0].trials
            }
            assert "secret" not in str(result.damaged)


# ---------------------------------------------------------------- nothing is unpickled

UNPICKLERS = {"pickle", "cPickle", "_pickle", "cloudpickle", "dill", "shelve", "marshal", "joblib"}
PINNED = {"pcworker/data/mnist.py"}
"""The modules that may import an unpickler. This one reads a single pickle, whose SHA-256 is in the
sources, by an unpickler that accepts only arrays: see tests/pcworker/test_mnist.py."""


def sources() -> list[Path]:
    found = [
        path for name in ("pcworker", "cluster", "jobs") for path in (ROOT / name).rglob("*.py")
    ]
    assert len(found) > 50
    return found


def test_no_module_can_unpickle_what_a_store_holds() -> None:
    guilty = []
    for path in sources():
        name = path.relative_to(ROOT).as_posix()
        for node in ast.walk(ast.parse(path.read_bytes())):
            if name not in PINNED and _imported(node) & UNPICKLERS:
                guilty.append(f"{name}:{node.lineno} imports an unpickler")
            if isinstance(node, ast.Call) and not _is_safe(node):
                guilty.append(f"{name}:{node.lineno} {ast.unparse(node)}")
    assert guilty == []


def _imported(node: ast.AST) -> set[str]:
    """All parts of the names that a statement imports, so that `ray.cloudpickle` is found too."""
    if isinstance(node, ast.Import):
        return {part for alias in node.names for part in alias.name.split(".")}
    if isinstance(node, ast.ImportFrom):
        named = {alias.name for alias in node.names}
        return {*(node.module or "").split("."), *named}
    return set()


def _is_safe(call: ast.Call) -> bool:
    """False for calls that could run code of a file, such as torch.load, eval and exec, and for
    np.load unless it says allow_pickle=False."""
    called = ast.unparse(call.func)
    if called in ("eval", "exec", "torch.load", "torch.jit.load", "pd.read_pickle", "yaml.load"):
        return False
    if called in ("np.load", "numpy.load"):
        allowed = {word.arg: ast.unparse(word.value) for word in call.keywords}
        return allowed.get("allow_pickle") == "False"
    return "allow_pickle=True" not in ast.unparse(call)


class Bomb:
    """Makes a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self._path = str(path)

    def __reduce__(self) -> Any:
        return os.mkdir, (self._path,)


def one_cell(epochs: int) -> Any:
    return mnist_ablation(
        networks=["784-16-10"], seeds=[1482555873], t=[None], gamma=[1.0], sigma=[0.0],
        rules=["BP", "Z-IL"], epochs=epochs, batch_size=100, activation="sigmoid", alpha=0.001,
    )  # fmt: skip


def sweep_of_one_cell(store: Path, name: str, epochs: int) -> tuple[str, ...]:
    """The command line of the sweep `one_cell`."""
    network = ("--networks", "784-16-10", "--rules", "BP,Z-IL", "--epochs", str(epochs))
    return "jobs.mnist_ablation", "--store", str(store), "--sweep", name, *network, *CELL


def bombs(path: Path) -> dict[str, bytes]:
    """Archives with one pickled array: the header itself, or an array beside a sound header."""
    header = np.frombuffer(b'{"maker": "x"}', np.uint8)
    made = {}
    for name, arrays in {
        "header": {"header": np.array([Bomb(path)], object)},
        "weights": {"header": header, "l0k0": np.array([Bomb(path)], object)},
    }.items():
        file = io.BytesIO()
        np.savez(file, allow_pickle=True, **arrays)
        made[name] = file.getvalue()
    return made


def test_a_checkpoint_that_is_a_pickle_is_not_executed(tmp_path: Path) -> None:
    went_off, folder = tmp_path / "went-off", tmp_path / "store"
    with np.load(io.BytesIO(bombs(went_off)["header"]), allow_pickle=True) as arrays:
        assert arrays["header"] is not None
    assert went_off.exists()  # the bomb works where pickles are allowed
    went_off.rmdir()

    store = LocalStore(folder)
    [shard] = planned(store, one_cell(epochs=2), "evil").shards
    keys = SweepKeys("evil")
    for place, data in enumerate(bombs(went_off).values()):
        store.put(keys.checkpoint(shard.shard_id, f"sealed{place}", 1), sealed(data))
        store.put(keys.checkpoint(shard.shard_id, f"bare{place}", 1), data)
    store.put(keys.checkpoint(shard.shard_id, "pickle", 1), pickle.dumps(Bomb(went_off)))
    done = job(*sweep_of_one_cell(folder, "evil", 2), "--local-debug")
    assert done.code == 0, done.stdout + done.stderr
    assert not went_off.exists()
    assert store.get(keys.commit(shard.shard_id)) is not None
    assert not list(folder.rglob("checkpoint-*"))  # the bad checkpoints are deleted too
