"""Tests of the mistakes that a user can make on the command line of the ablation.

Each mistake ends with exit code 2 and one line on stderr, which holds the value and what is
allowed. The sweep is refused before anything is started, and nothing is left in the store.
"""

import struct
import subprocess
import sys
from pathlib import Path

import pytest
from mistakes import assert_refused, files, job, refused

from jobs.mnist_ablation.__main__ import command

ROOT = Path(__file__).resolve().parents[2]
SMALL = ("--networks", "784-16-10", "--t", "l", "--gamma", "1", "--sigma", "0")


MISTAKES = [
    ("--rules BP,EP", "'EP'", "BP, IL, Z-IL, Fa-Z-IL"),
    ("--gamma 0", "gamma 0", "above 0"),
    ("--gamma 1,-0.5", "-0.5", "above 0"),
    ("--gamma nan", "nan", "finite"),
    ("--gamma 1,,2", "'1,,2'", "0.01,0.1,0.5,1,5,10"),
    ("--t -1", "-1", "at least 0"),
    ("--t l,1.5", "'l,1.5'", "l,0,1,2,3,4,16,64"),
    ("--sigma -1", "-1", "at least 0"),
    ("--sigma inf", "inf", "finite"),
    ("--seeds -1", "-1", "from 0 to 2^63 - 1"),
    (f"--seeds 7,{2**63}", str(2**63), "from 0 to 2^63 - 1"),
    ("--seeds seven", "'seven'", "1482555873"),
    ("--epochs 0", "epochs 0", "at least 1"),
    ("--epochs many", "'many'", "integer"),
    ("--batch-size 0", "batch_size 0", "at least 1"),
    ("--alpha 0", "alpha 0", "above 0"),
    ("--t-d 0", "t_d 0", "at least 1"),
    ("--horizon -1", "horizon -1", "at least 0"),
    ("--networks alexnet", "'alexnet'", "784-...-10"),
    ("--networks 784-32-10,100-32-10", "'100-32-10'", "784 inputs"),
    ("--networks 784-32", "'784-32'", "10 outputs"),
    ("--networks 784-0-10", "'784-0-10'", "784-32-32-10"),
    ("--networks 784-032-10", "'784-032-10'", "784-32-32-10"),
    ("--networks 784-a-10", "'784-a-10'", "784-32-32-10"),
    ("--activation softplus", "'softplus'", "'sigmoid', 'tanh', 'relu'"),
    ("--device tpu", "'tpu'", "'auto', 'cpu', 'cuda'"),
    ("--workers 0", "0", "x>=1"),
    ("--cpus-per-worker 0", "0 cpus", "whole number, or a share of one"),
    ("--cpus-per-worker nan", "nan cpus", "whole number, or a share of one"),
    ("--cpus-per-worker inf", "inf cpus", "whole number, or a share of one"),
    ("--cpus-per-worker 1.5", "1.5 cpus", "whole number, or a share of one"),
    ("--epochs 9999999999", "9999999999", "below 2^31"),
    ("--workers 999", "999 worker(s)", "lower --workers"),
    ("--gpus-per-worker -1", "-1 gpus", "whole number, or a share of one"),
    ("--sweep ../x", "'../x'", "letters, digits"),
    ("--sweep .hidden", "'.hidden'", "starting with a letter or a digit"),
    ("--sede 1", "--sede", "--seeds"),
]


@pytest.mark.parametrize(("options", "value", "allowed"), MISTAKES, ids=[m[0] for m in MISTAKES])
def test_a_wrong_value_is_refused_with_what_is_allowed(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    options: str,
    value: str,
    allowed: str,
) -> None:
    arguments = ["--store", str(tmp_path), *SMALL, *options.split(), "--plan"]
    monkeypatch.setattr(sys, "argv", ["mnist_ablation", *arguments])
    assert_refused(command, capsys, value, allowed)
    assert files(tmp_path) == []


def test_a_wrong_value_is_refused_without_plan_just_as_well(tmp_path: Path) -> None:
    line = refused("--store", str(tmp_path), *SMALL, "--t", "-1")
    assert "t -1" in line
    assert files(tmp_path) == []


@pytest.mark.parametrize("plan", [["--plan"], []], ids=["plan", "run"])
def test_a_store_that_cannot_be_written_is_refused(tmp_path: Path, plan: list[str]) -> None:
    (tmp_path / "file").write_text("not a folder")
    store = tmp_path / "file" / "store"
    line = refused("--store", str(store), *SMALL, *plan)
    assert str(store) in line
    assert "check the path, its permissions and the space on its disk" in line
    assert (tmp_path / "file").read_text() == "not a folder"


def test_a_store_of_another_kind_is_refused() -> None:
    line = refused("--store", "gs://bucket/results", *SMALL, "--plan")
    assert "store gs:/...: " in line
    assert "give a directory, or s3://bucket/prefix" in line


@pytest.mark.parametrize("plan", [["--plan"], []], ids=["plan", "run"])
def test_a_truncated_data_file_is_refused_and_nothing_is_stored(
    tmp_path: Path, plan: list[str]
) -> None:
    data, store = tmp_path / "data", tmp_path / "store"
    data.mkdir()
    path = data / "train-images-idx3-ubyte"
    path.write_bytes(struct.pack(">4i", 2051, 60_000, 28, 28) + bytes(1000))
    line = refused("--store", str(store), *SMALL, "--data", str(data), *plan)
    assert str(path) in line
    assert "1016 bytes" in line
    assert "47040016" in line
    assert files(store) == []


def test_a_data_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    data = tmp_path / "nowhere"
    line = refused("--store", str(tmp_path / "store"), *SMALL, "--data", str(data), "--plan")
    assert f"{data} is not a folder" in line


def test_a_name_that_holds_another_plan_is_refused_and_keeps_its_plan(tmp_path: Path) -> None:
    taken = tmp_path / "sweeps" / "mine" / "plan.json"
    taken.parent.mkdir(parents=True)
    code = (
        "from pathlib import Path\n"
        "from cluster.sweeps.plan import make_plan, store_plan\n"
        "from jobs.mnist_ablation.experiment import ABLATION\n"
        "from jobs.mnist_ablation.sweep import mnist_ablation\n"
        "from pcworker.store.store import open_store\n"
        "sweep = mnist_ablation(networks=['784-16-10'], seeds=[1], t=[None], gamma=[1.0],\n"
        "                       sigma=[0.0], rules=['BP', 'Z-IL'])\n"
        f"store_plan(open_store({str(tmp_path)!r}), make_plan(ABLATION, sweep, 'mine'), {{}})\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=120)
    before = taken.read_bytes()
    same = ("--store", str(tmp_path), *SMALL, "--sweep", "mine")
    assert job(*same, "--seeds", "1", "--plan").code == 0
    for plan in (["--plan"], []):
        line = refused(*same, "--seeds", "2", *plan)
        assert "sweep mine already holds another plan" in line
        assert "choose another --sweep" in line
    assert files(tmp_path) == [taken]
    assert taken.read_bytes() == before


@pytest.mark.parametrize(("names", "value"), [("absent", "sweep absent"), ("../x", "'../x'")])
def test_the_collector_refuses_a_sweep_that_is_not_there(
    tmp_path: Path, names: str, value: str
) -> None:
    line = refused("--store", str(tmp_path), "--sweep", names, module="jobs.collect")
    assert value in line
    assert files(tmp_path) == []


def test_the_collector_does_not_make_the_store_it_cannot_find(tmp_path: Path) -> None:
    store = tmp_path / "typo"
    line = refused("--store", str(store), "--sweep", "mine", module="jobs.collect")
    assert str(store) in line
    assert not store.exists()


def test_a_plan_says_what_would_be_run_and_starts_nothing(tmp_path: Path) -> None:
    networks = ("--networks", "784-32-10,784-32-32-10")
    planned = job("--store", str(tmp_path), *networks, "--seeds", "1,2", "--plan")
    assert (planned.code, planned.stderr) == (0, "")
    for word in ("shard", "network", "trials", "updates", "minutes"):
        assert word in planned.stdout.splitlines()[1]
    assert "208 trials in" in planned.stdout  # there are 52 per network and seed
    assert f"{208 * 3000:,} weight updates to make" in planned.stdout
    assert "Nothing was started." in planned.stdout
    assert "Running on" not in planned.stdout
    assert files(tmp_path) == []


def test_planning_imports_neither_torch_nor_ray(tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "from jobs.mnist_ablation.__main__ import command\n"
        f"arguments = ['--store', {str(tmp_path)!r}, '--plan']\n"
        "assert command(arguments, standalone_mode=False) == 0\n"
        "assert not {'torch', 'ray'} & set(sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("module", ["jobs.mnist_ablation", "jobs.collect"])
def test_every_job_has_help(module: str) -> None:
    helped = job("--help", module=module)
    assert (helped.code, helped.stderr) == (0, "")
    assert "Usage:" in helped.stdout
    assert "--store" in helped.stdout
