"""Tests that the preflight finds what would break a run before the run starts.

Verdicts are pure functions of what was found, so both are written out by hand. Then faults are
planted one at a time, in a store, in a data set and in the size of a sweep, and the preflight must
find each. `test_faults_preflight` plants faults in clusters and nodes.
"""

import math
import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch
from command_lines import called, files, started
from faulty_proxy import AHEAD_SECONDS, FaultyProxy, faulty_proxy
from moto_server import moto_server
from preflight_lines import CHECKS, SMALL, bad, lines_of
from ray_clusters import free_ports
from seaweed import S3Server

from cluster.nodes.prices import Prices
from cluster.nodes.resources import Resources
from cluster.preflight.checks import verdicts
from cluster.preflight.findings import DashboardFound, Found, NodeFound, RayFound, StoreFound
from cluster.preflight.look import demands_token
from cluster.preflight.node import disk, knock
from cluster.preflight.store import ahead, look_at_store
from cluster.preflight.verdicts import failed, summary
from cluster.sweeps.estimate import Estimate
from cluster.sweeps.preview import cost_line
from jobs.imagenet_timing.configuration import timing_configuration
from jobs.imagenet_timing.cost import timing_bytes
from jobs.mnist_ablation.cost import shard_bytes
from jobs.mnist_ablation.speed import calibration
from pcworker.data.mnist import PARTS
from pcworker.errors import InputError
from pcworker.kernels.exactness import (
    learns_as_backprop,
    made_up_data,
    require_exact,
    try_exactness,
)
from pcworker.machine.device import prepare_device
from pcworker.store.s3 import s3
from pcworker.store.store import open_store
from pcworker.trials.configuration import configuration
from pcworker.trials.trial import Trial

GB = 10**9
VERSIONS = {"python": "3.11.7", "torch": "2.15.0", "engine": "1", "code": "abc"}
NODE = NodeFound(
    name="a",
    ahead_s=0.0,
    versions=VERSIONS,
    disk=(50 * GB, 100 * GB),
    device="cpu: some, 1 thread(s)",
    free_memory=8 * GB,
    exact=True,
    packing="stacked",
    kernel="fused.c",
)
RAY = RayFound(
    local=False,
    nodes=(NODE, replace(NODE, name="b")),
    demands_token=True,
    dashboard=DashboardFound("10.0.0.1:8265", 401, True),
)
WELL = Found(StoreFound("s3://b/p", ahead_s=0.0), RAY, "MNIST", None, VERSIONS, needed_bytes=GB)
# ---------------------------------------------------------------- verdicts


def store(**values: Any) -> Found:
    return replace(WELL, store=replace(WELL.store, **values))


def ray(**values: Any) -> Found:
    return replace(WELL, ray=replace(RAY, **values))


def node(**values: Any) -> Found:
    """The findings if node b has these values and all else is well."""
    return ray(nodes=(NODE, replace(RAY.nodes[1], **values)))


def dashboard(status: int | None, public: bool) -> Found:
    return ray(dashboard=DashboardFound("10.0.0.1:8265", status, public))


def test_where_all_is_well_all_is_ok_in_a_fixed_order() -> None:
    made = verdicts(WELL)
    assert [verdict.check for verdict in made] == CHECKS
    assert {verdict.status for verdict in made} == {"ok"}
    assert not failed(made)
    assert summary(made) == "Preflight: 13 checks passed."


BAD: list[tuple[Found, str, str, tuple[str, ...]]] = [
    (store(unwritable="no space; make some"), "store writable", "FAIL", ("make some",)),
    (store(overwrites="ignored; another"), "conditional writes", "FAIL", ("another",)),
    (store(free_bytes=GB), "store's space", "FAIL", ("1 GB free", "1.02 GB", "--store")),
    (replace(WELL, no_data="x is missing"), "data", "FAIL", ("x is missing",)),
    (ray(lack="room for 1 of 2"), "nodes", "warn", ("room for 1 of 2", "that join later")),
    (node(lacks_images=True), "data", "FAIL", ("MNIST is not on b", "every node")),
    (store(ahead_s=12.0), "clocks", "warn", ("server is 12 s ahead of", "NTP")),
    (node(ahead_s=-300.0), "clocks", "FAIL", ("b is 300 s behind", "NTP")),
    (node(busy="its GPUs are at work", device="", exact=False), "nodes", "warn",
     ("b: its GPUs are at work: not looked at", "looks for itself")),
    (node(silent="not within 60 s"), "nodes", "warn", ("b does not answer: not within 60 s",)),
    (node(versions={**VERSIONS, "torch": "2.9"}), "versions", "FAIL",
     ("b has torch 2.9, the driver 2.15.0", "one image")),
    (node(versions={"python": "3.11.7"}), "versions", "FAIL", ("b has code unknown",)),
    (node(free_memory=GB), "devices", "warn", ("1 GB of memory", "needs 1.07 GB")),
    (ray(idle_gpus=8.0), "devices", "warn",
     ("8 GPUs", "--gpus-per-worker")),
    (node(exact=False), "exactness", "FAIL", ("on b", "torch.autograd", "--no-preflight")),
    (node(packing="irreproducible"), "exactness", "FAIL", ("on b", "does not repeat")),
    (replace(node(exact=False), exact=False), "exactness", "warn", ("on b", "torch.autograd")),
    (node(packing="alone"), "exactness", "warn", ("a: stacked", "b: alone", "--cpus-per-worker")),
    (replace(node(device="cpu: other"), sums="library"), "exactness", "warn",
     ("differ between cpu: other and cpu: some", "--same-everywhere, or leave out --sums library")),
    (node(disk=(GB, 10 * GB)), "Ray's disk", "FAIL", ("b: 1 GB free", "--temp-dir")),
    (node(disk=(40 * GB, 1000 * GB)), "Ray's disk", "warn", ("b: 40 GB", "--temp-dir")),
    (ray(demands_token=False), "token", "FAIL", ("RAY_AUTH_MODE=token", "--no-preflight")),
    (ray(demands_token=None), "token", "warn", ("RAY_AUTH_MODE=token",)),
    (dashboard(200, True), "dashboard", "FAIL", ("10.0.0.1:8265", "--dashboard-host 127.0.0.1")),
    (dashboard(None, True), "dashboard", "warn", ("does not answer",)),
]  # fmt: skip


@pytest.mark.parametrize(("found", "check", "status", "says"), BAD)
def test_a_fault_is_named_with_what_to_do_and_is_the_only_one(
    found: Found, check: str, status: str, says: tuple[str, ...]
) -> None:
    made = verdicts(found)
    bad = [verdict for verdict in made if verdict.status in ("warn", "FAIL")]
    assert [(verdict.check, verdict.status) for verdict in bad] == [(check, status)]
    assert all(part in str(bad[0]) for part in says), bad[0]
    assert "\n" not in str(bad[0])
    assert failed(made) == (status == "FAIL")


@pytest.mark.parametrize(
    ("found", "check"),
    [
        (store(free_bytes=2 * GB), "store's space"),
        (store(ahead_s=-9.0), "clocks"),
        (replace(node(packing="alone"), exact=False), "exactness"),
        (node(device="cpu: other"), "exactness"),
        (replace(node(device="cpu: 2"), sums="library", same_everywhere=True), "exactness"),
        (dashboard(403, True), "dashboard"),
        (dashboard(200, False), "dashboard"),
        (ray(dashboard=None), "dashboard"),
    ],
)
def test_what_is_no_fault_passes(found: Found, check: str) -> None:
    assert {v.check: v.status for v in verdicts(found)}[check] == "ok"


def test_what_cannot_be_looked_at_is_skipped_and_not_called_ok() -> None:
    statuses = {v.check: v.status for v in verdicts(store(unreachable="down; wait"))}
    assert [statuses[check] for check in CHECKS[:3]] == ["FAIL", "skip", "skip"]
    made = verdicts(replace(WELL, ray="Ray at x cannot be reached: no; check --address"))
    assert [v.status for v in made] == ["ok"] * 6 + ["FAIL"] + ["skip"] * 6
    no_room = verdicts(ray(nodes=(), no_room="does not fit; lower --workers"))
    assert [v.status for v in no_room][6:11] == ["FAIL"] + ["skip"] * 4
    no_clocks = replace(store(ahead_s=None), ray="Ray at x cannot be reached: no")
    assert {v.check: v.status for v in verdicts(no_clocks)}["clocks"] == "skip"
    one_clock = {v.check: v for v in verdicts(node(ahead_s=None))}["clocks"]
    assert one_clock.status == "ok" and one_clock.found.startswith("2 other clocks")  # not 3
    silent = verdicts(ray(nodes=(NodeFound("a", silent="dead"),)))
    assert [v.status for v in silent][6:11] == ["FAIL"] + ["skip"] * 4


def test_a_gpu_that_does_not_work_has_no_exactness() -> None:
    made = {v.check: v for v in verdicts(node(device_trouble="no CUDA; use cpu", exact=False))}
    assert made["devices"].status == "FAIL"
    assert "b: no CUDA; use cpu" in made["devices"].found
    assert made["exactness"].status == "ok"  # the other node is exact


def test_where_every_gpu_is_at_work_nothing_fails() -> None:
    busy = tuple(replace(n, busy="its GPUs are at work", exact=False) for n in RAY.nodes)
    made = {v.check: v for v in verdicts(ray(nodes=busy))}
    assert made["nodes"].status == "warn"
    assert made["devices"].status == made["exactness"].status == "skip"
    assert made["versions"].status == made["clocks"].status == "ok"  # they answer
    assert not failed([*made.values()])


def test_one_gpu_of_many_is_said_to_be_one() -> None:
    for gpus, said in ((8.0, "b: cuda: some, one of 8 GPUs, 8 GB"), (1.0, "b: cuda: some, 8 GB")):
        made = {v.check: v for v in verdicts(node(gpus=gpus, device="cuda: some"))}
        assert said in made["devices"].found


def test_a_local_ray_leaves_devices_to_its_workers_and_may_have_no_token() -> None:
    local = RayFound(local=True, nodes=(), demands_token=True, disk=(50 * GB, 100 * GB))
    made = verdicts(replace(WELL, ray=local))
    assert {v.status for v in made} == {"ok", "skip"}
    assert summary(made) == (
        "Preflight: 11 checks passed; each worker looks for itself: devices, exactness."
    )
    # An experiment that does not rely on exactness does not try it, and the line does not name it.
    single = verdicts(replace(WELL, ray=local, exact=False))
    assert summary(single) == "Preflight: 11 checks passed; each worker looks for itself: devices."
    without = verdicts(replace(WELL, ray=replace(local, demands_token=False)))
    assert [v.check for v in without if v.status == "warn"] == ["token"]


def test_without_a_cluster_the_store_and_the_data_are_looked_at() -> None:
    made = verdicts(replace(WELL, ray=None))
    assert [verdict.check for verdict in made] == [
        "store reachable", "store writable", "conditional writes", "store's space", "data", "clocks"
    ]  # fmt: skip
    assert summary(made) == "Preflight: 6 checks passed."
    broken = verdicts(replace(WELL, ray=None, no_data="it is not there"))
    assert [verdict.check for verdict in broken if verdict.status == "FAIL"] == ["data"]


def test_how_far_another_clock_is_off_is_what_is_certain() -> None:
    assert ahead(sent=100.0, there=100.5, received=101.0) == 0.0
    assert ahead(sent=100.0, there=111.0, received=101.0) == 10.0
    assert ahead(sent=100.0, there=88.0, received=101.0) == -12.0
    # A clock that shows whole seconds shows 99 until 100 comes.
    assert ahead(sent=99.9, there=99.0, received=99.95, tick=1.0) == 0.0
    assert ahead(sent=100.0, there=88.0, received=101.0, tick=1.0) == -11.0


# ---------------------------------------------------------------- exactness


@pytest.mark.parametrize("sums", ["fixed", "library"])
def test_this_device_is_exact_and_takes_stacks(cpu: torch.device, sums: str) -> None:
    found = try_exactness(cpu, sums)
    assert found.exact
    assert found.packing == "stacked"
    require_exact(cpu, sums)


def test_the_textbook_arithmetic_is_found_inexact(cpu: torch.device) -> None:
    """Oracle: `test_exactly_backprop`, where textbook drifts and displacement does not."""
    for arithmetic, exact in (("displacement", True), ("textbook", False)):
        trial = Trial(configuration(network="784-32-10", rule="Z-IL", arithmetic=arithmetic), 0)
        batches = list(made_up_data(cpu).batches(trial.configuration, 0, 1, noisy=False))
        assert learns_as_backprop(trial, batches, 0.001, cpu) == exact


def test_two_threads_take_trials_one_by_one_in_torchs_sums() -> None:
    device = prepare_device("cpu", gpus=0, cpus=2)
    assert try_exactness(device, "library").packing == "alone"
    assert try_exactness(device, "fixed").packing == "stacked"


# ---------------------------------------------------------------- ten faults: the store


@pytest.fixture(scope="module")
def running_moto() -> Iterator[S3Server]:
    with moto_server() as running:
        yield running


@pytest.fixture
def moto(running_moto: S3Server) -> S3Server:
    """A server with an empty bucket for one test."""
    return running_moto.with_new_bucket()


@pytest.fixture
def proxy(moto: S3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyProxy]:
    for name, value in moto.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "2")
    monkeypatch.setattr(s3, "LONGEST_PAUSE_SECONDS", 0.1)
    with faulty_proxy(moto.endpoint) as running:
        yield running


def looked(endpoint: str, bucket: str) -> dict[str, str]:
    """The verdicts as lines, by check, on this bucket. All that is not the store's is well."""
    store = open_store(f"s3://{bucket}/deep/prefix", endpoint)
    found = replace(WELL, store=look_at_store(store))
    return {verdict.check: str(verdict) for verdict in verdicts(found)}


def test_a_store_that_works_passes_and_keeps_no_probe(proxy: FaultyProxy, moto: S3Server) -> None:
    assert bad(looked(proxy.endpoint, moto.bucket)) == {}
    assert "Contents" not in moto.client().list_objects_v2(Bucket=moto.bucket)


def test_fault_1_a_store_that_cannot_be_reached(proxy: FaultyProxy, moto: S3Server) -> None:
    [port] = free_ports(1)
    lines = bad(looked(f"http://127.0.0.1:{port}", moto.bucket))
    assert list(lines) == ["store reachable", "store writable", "conditional writes"]
    assert lines["store reachable"].startswith("FAIL ")
    assert "does not answer" in lines["store reachable"]
    assert "check the endpoint" in lines["store reachable"]


def test_fault_2_a_store_that_may_only_be_read(proxy: FaultyProxy, moto: S3Server) -> None:
    proxy.inject("access denied", "PUT", times=9)
    lines = bad(looked(proxy.endpoint, moto.bucket))
    assert list(lines) == ["store writable", "conditional writes"]
    assert lines["store writable"].startswith("FAIL ")
    assert "AccessDenied" in lines["store writable"]
    assert "allow these credentials" in lines["store writable"]


def test_fault_3_a_store_that_ignores_if_none_match(proxy: FaultyProxy, moto: S3Server) -> None:
    proxy.inject("forget condition", "PUT", times=9)
    lines = bad(looked(proxy.endpoint, moto.bucket))
    assert list(lines) == ["conditional writes"]
    assert lines["conditional writes"].startswith("FAIL ")
    assert "use a store that honours conditional writes" in lines["conditional writes"]
    assert "Contents" not in moto.client().list_objects_v2(Bucket=moto.bucket)


def test_fault_4_a_server_whose_clock_is_an_hour_ahead(proxy: FaultyProxy, moto: S3Server) -> None:
    proxy.inject("clock ahead", "GET", times=9)
    lines = bad(looked(proxy.endpoint, moto.bucket))
    assert list(lines) == ["clocks"]
    [seconds] = re.findall(r"FAIL +clocks +the store's server is (\d+) s ahead", lines["clocks"])
    assert AHEAD_SECONDS - 3 < int(seconds) <= AHEAD_SECONDS


def test_a_directory_that_cannot_be_one_is_not_writable(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    found = look_at_store(open_store(str(tmp_path / "file" / "store")))
    assert found.unreachable is None
    assert found.unwritable is not None
    assert "check the path" in found.unwritable


def test_the_space_is_that_of_the_disk_where_a_folder_will_be(tmp_path: Path) -> None:
    free, total = disk(str(tmp_path / "not" / "yet"))
    statvfs = os.statvfs(tmp_path)
    assert total == statvfs.f_blocks * statvfs.f_frsize
    assert free == pytest.approx(statvfs.f_bavail * statvfs.f_frsize, rel=0.05)


# ---------------------------------------------------------------- the dashboard and the token


@contextmanager
def answering(host: str, status: int) -> Iterator[str]:
    """A server at this address, which answers every request with this status."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            """Prints nothing."""

    with ThreadingHTTPServer((host, 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize(("host", "public"), [("127.0.0.1", False), ("0.0.0.0", True)])
@pytest.mark.parametrize("status", [200, 401])
def test_a_dashboard_is_asked_without_a_token_and_at_other_addresses(
    host: str, public: bool, status: int
) -> None:
    with answering(host, status) as url:
        assert knock(url) == {"status": status, "public": public}
    assert knock(url) == {"status": None, "public": False}


def test_of_who_is_no_ray_it_is_not_said_whether_it_demands_a_token() -> None:
    with answering("127.0.0.1", 200) as url:
        assert demands_token(url.removeprefix("http://")) is None


# ---------------------------------------------------------------- what a sweep needs, and costs


def test_what_weights_take_is_counted() -> None:
    small = Trial(configuration(network="784-32-10", rule="BP"), 1)
    assert shard_bytes([small, small]) == 2 * (784 * 32 + 32 * 10) * 24
    timed = {"network": "small-conv", "rule": "BP", "device_kind": "cpu", "threads": 1,
             "data": "synthetic", "batch_size": 2, "updates": 1}  # fmt: skip
    parameters = 3 * 8 * 9 + 8 + 8 * 16 * 9 + 16 + 256 * 32 + 32 + 32 * 10 + 10
    assert timing_bytes([Trial(timing_configuration(**timed), 1)]) == parameters * 24


def resources(gpus: float) -> Resources:
    return Resources(workers=None, cpus=1, gpus=gpus, device="auto")


def test_the_cost_is_worker_hours_times_what_a_worker_costs() -> None:
    expected = Estimate({"a": 3600.0, "b": 5400.0}, workers=8)
    line = cost_line(expected, resources(0.5), Prices(gpu=3.2, core=0.4))
    assert "2.5 worker hours of 1 CPU core and 0.5 GPUs x 2 = 5.00" in line
    assert "Estimated" in line
    assert "no GPU's were measured" in line


def test_a_price_per_gpu_hour_says_nothing_of_workers_without_gpus() -> None:
    line = cost_line(Estimate({"a": 3600.0}, workers=1), resources(0), Prices(gpu=3.2))
    assert line.startswith("No cost: ")
    assert "--gpus-per-worker" in line
    assert "3.2" not in line and "=" not in line


@pytest.mark.parametrize("price", [-0.01, float("nan"), float("inf")])
def test_a_price_is_a_finite_number_of_at_least_0(price: float) -> None:
    with pytest.raises(InputError, match=r"--price-per-gpu-hour .*: give a finite number"):
        Prices(gpu=price)


# ---------------------------------------------------------------- the commands


def test_the_plan_prints_the_cost(tmp_path: Path) -> None:
    plan = ("--store", str(tmp_path), *SMALL, "--plan", "--price-per-gpu-hour", "2.5")
    done = called(*plan, "--sums", "library", "--gpus-per-worker", "1")
    assert (done.code, done.stderr) == (0, "")
    assert "1 GPU x 2.5 =" in done.stdout
    assert "No cost: " in called(*plan).stdout


def test_fault_5_data_that_is_truncated_beside_all_that_is_well(tmp_path: Path) -> None:
    """The command looks at a local Ray, and says that all else is ok."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / PARTS["train_images"].name).write_bytes(b"\0" * 1000)
    where = ("--store", str(tmp_path / "store"), "--data", str(tmp_path / "data"))
    done = started(*where, module="jobs.preflight")
    assert done.code == 2, done
    lines = lines_of(done)
    assert list(lines) == CHECKS
    assert list(bad(lines)) == ["data"]
    assert lines["data"].startswith("FAIL ")
    assert "has 1000 bytes of data" in lines["data"]
    assert "give --data a folder" in lines["data"]
    assert "equal: python" in lines["versions"]
    assert "Z-IL equals torch.autograd bit for bit" in lines["exactness"]
    assert done.stderr == ""
    assert files(tmp_path / "store") == []


@pytest.mark.parametrize("broken", [False, True])
def test_the_data_of_the_timing_experiment_are_a_directory_of_images(
    tmp_path: Path, broken: bool
) -> None:
    """Only the names of the files are looked at. A class without an image is a fault."""
    for name in ("cat", "dog"):
        (tmp_path / "data" / name).mkdir(parents=True)
        (tmp_path / "data" / name / ("a.txt" if broken else "a.jpg")).touch()
    [nobody] = free_ports(1)
    done = called(
        *("--store", str(tmp_path / "store"), "--data", str(tmp_path / "data")),
        *("--experiment", "timing", "--address", f"127.0.0.1:{nobody}"),
        module="jobs.preflight",
    )
    lines = lines_of(done)
    assert lines["data"].startswith("FAIL " if broken else "ok ")
    assert lines["nodes"].startswith("FAIL ")  # there is no Ray at that address
    assert ("cat holds no image" if broken else str(tmp_path / "data")) in lines["data"]


def test_fault_6_a_disk_too_small_for_the_sweep_stops_the_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The weights need four times the disk's size, so nothing is started and nothing is stored."""
    monkeypatch.setattr(calibration, "WORTH_MEASURING_S", math.inf)  # its minutes are not looked at
    width = str(disk(str(tmp_path))[1] // (16 * 794 * 2) * 4)
    where = ("--store", str(tmp_path / "store"), "--local-debug")
    done = called("--networks", f"784-{width}-10", *SMALL[2:], *where)
    assert done.code == 2, done
    assert list(bad(lines_of(done))) == ["store's space"] == list(lines_of(done))
    assert "make room there" in done.stdout
    assert done.stderr.count("\n") == 1
    assert "1 of 6 checks" in done.stderr and "--no-preflight" in done.stderr
    assert files(tmp_path / "store") == []
