"""Tests of the mistakes that a user can make on the command lines of the jobs.

Each mistake ends with exit code 2 and one line on stderr, which holds the value and what is
allowed. The sweep is refused before anything is started, and nothing is left in the store.
"""

import struct
from pathlib import Path

import pytest
from builders import planned
from command_lines import ABLATION, called, files, refusal

from jobs.mnist_ablation.sweep import mnist_ablation
from pcworker.store.local import LocalStore

SMALL = ("--networks", "784-16-10", "--t", "l", "--gamma", "1", "--sigma", "0")
TIMING, DETECTION = "jobs.imagenet_timing", "jobs.detection_rate"
ANY_NETWORK = "jobs.any_network"
SOUND = {
    ABLATION: SMALL, TIMING: (), DETECTION: ("--networks", "784-16-16-10"), ANY_NETWORK: (),
}  # fmt: skip
"""Options that are right, to which a mistake is added."""

LONG, MANY = "9" * 4000, "9" * 5000
MIXED = "--gpus-per-worker 1 --cpu-workers 2"
"""Whole numbers that Python turns into an int, and that it refuses to."""

MISTAKES = {
    ABLATION: [
        ("--rules BP,EP", "'EP'", "BP, IL, Z-IL, Fa-Z-IL"),
        ("--sums exact", "'exact'", "'fixed', 'library'"),
        ("--same-everywhere", "--same-everywhere is for --sums library", "leave one of them out"),
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
        (f"--networks 784-{10**9}-10", "'784-1000000000-10'", "below 10^9"),
        (f"--networks 784-{MANY}-10", "'784-999", "below 10^9"),
        (f"--seeds {MANY}", "'999", "is not a list of INTEGERS"),
        (f"--seeds {LONG}", "seed 999", "from 0 to 2^63 - 1"),
        (f"--t {LONG}", "t 999", "below 2^31"),
        (f"--epochs {MANY}", "'999", "integer"),
        (f"--batch-size {LONG}", "batch_size 999", "below 2^31"),
        (f"--horizon {LONG}", "horizon 999", "below 2^31"),
        (f"--alpha {MANY}", "alpha inf", "finite"),
        (f"--gamma {MANY}", "gamma inf", "finite"),
        (f"--workers {LONG}", "999", "lower --workers"),
        (f"--cpus-per-worker {LONG}", "inf cpus", "whole number, or a share of one"),
        (f"--price-per-gpu-hour {MANY}", "--price-per-gpu-hour inf", "finite"),
        ("--rules Fa-Z-IL", "rules Fa-Z-IL", "none of the declared cells is theirs"),
        ("--activation softplus", "'softplus'", "'sigmoid', 'tanh', 'relu'"),
        ("--device tpu", "'tpu'", "'auto', 'cpu', 'cuda'"),
        ("--workers 0", "0", "x>=1"),
        ("--cpus-per-worker 0", "0 cpus", "whole number, or a share of one"),
        ("--cpus-per-worker nan", "nan cpus", "whole number, or a share of one"),
        ("--cpus-per-worker inf", "inf cpus", "whole number, or a share of one"),
        ("--cpus-per-worker 1.5", "1.5 cpus", "whole number, or a share of one"),
        ("--epochs 9999999999", "9999999999", "below 2^31"),
        ("--workers 999", "999 workers", "lower --workers"),
        ("--gpus-per-worker -1", "-1 gpus", "whole number, or a share of one"),
        ("--sweep ../x", "'../x'", "letters, digits"),
        ("--sweep .hidden", "'.hidden'", "starting with a letter or a digit"),
        ("--sede 1", "--sede", "--seeds"),
        ("--price-per-gpu-hour -1", "--price-per-gpu-hour -1", "at least 0"),
        ("--data /nowhere/at/all", "/nowhere/at/all", "is not a folder"),
        ("--local-debug --address auto", "--address auto", "leave out --local-debug"),
        ("--local-debug --workers 2", "--workers 2", "leave out --local-debug"),
        ("--local-debug --gpus-per-worker 0.5", "--gpus-per-worker 0.5", "leave out --local-debug"),
        ("--cpu-workers 2", "--cpu-workers 2", "give --gpus-per-worker 1"),
        (f"{MIXED} --sums library", "--cpu-workers 2", "give --sums fixed"),
    ],
    TIMING: [
        ("--networks resnet", "'resnet'", "mlp, alexnet, vgg11"),
        ("--rules BP,EP", "'EP'", "BP, IL, Z-IL, Fa-Z-IL"),
        (f"--updates {LONG}", "updates 999", "below 2^31"),
        (f"--t {MANY}", "'999", "is not a list of INTEGERS"),
        ("--schedules lazy", "'lazy'", "layerwise, literal"),
        ("--t -1", "t -1", "at least 0"),
        ("--t l", "'l'", "10,20"),
        ("--batch-size 0", "batch_size 0", "at least 1"),
        ("--updates 0", "updates 0", "at least 1"),
        ("--updates 10 --block 4", "updates 10", "whole blocks of 4"),
        ("--block 0", "block 0", "at least 1"),
        ("--warmup 0", "warmup 0", "at least 1"),
        ("--with-loading --loaders 0", "0", "x>=1"),
        ("--seeds -1", "-1", "from 0 to 2^63 - 1"),
        ("--device cuda", "0 GPUs", "--gpus-per-worker 1"),
        (MIXED, "--cpu-workers 2", "leave it out"),
        ("--cpus-per-worker 999", "999 CPU", "lower --workers"),
        ("--data /nowhere/at/all", "/nowhere/at/all", "DATA/train/n01440764"),
        ("--arithmetic exact", "'exact'", "'displacement', 'textbook'"),
        ("--checkpoint-every 1", "--checkpoint-every", "No such option"),
        ("--executions fast", "'fast'", "plain, compiled, graph"),
        ("--executions plain,graph", "execution graph", "give --gpus-per-worker 1"),
        ("--executions compiled --rules Z-IL", "rules Z-IL", "none of the declared cells"),
    ],
    DETECTION: [
        ("--gpus-per-worker 1", "has no kernel for a GPU", "or give --sums library"),
        ("--device cuda --gpus-per-worker 1", "--device cuda with --gpus-per", "leave both out"),
        ("--weights frozen", "frozen", "allowed: learning, still"),
        ("--horizons 1", "1", "at least 2"),
        ("--horizons l", "'l'", "is not a list of HORIZONS such as l_max-1,16,32"),
        (f"--stages {LONG}", "stages 999", "below 2^31"),
        (f"--networks 784-{MANY}-10", "'784-999", "below 10^9"),
        (f"--tolerances {MANY}", "tolerances inf", "below 2^31"),
        (f"--minibatches {LONG}", "minibatches 999", "below 2^31"),
        ("--stages -5", "stages -5", "at least 0"),
        ("--tolerances x", "'x'", "is not a list of NUMBERS"),
    ],
    ANY_NETWORK: [
        ("--networks resnet", "'resnet'", "cnn, resnet-small, resnet18"),
        ("--networks nowhere_at_all:make", "'nowhere_at_all:make'", "a function without arguments"),
        ("--networks rnn --data-set directory", "3 x 224 x 224", "another --data-set"),
        ("--networks rnn --view patches", "'patches'", "leave out --view"),
        ("--cuts relu", "cuts relu", "give --networks a single one"),
        ("--data-set cifar100", "'cifar100'", "'mnist', 'fashion-mnist', 'cifar10', 'svhn'"),
        ("--data-set directory --networks cnn", "directory", "give --data"),
        ("--data /nowhere/at/all", "/nowhere/at/all", "is not a folder"),
        ("--updates 2", "updates 2", "at least 3"),
        ("--t -1", "t -1", "at least 0"),
        ("--alpha nan", "alpha nan", "finite"),
        ("--batch-size 0", "batch_size 0", "at least 1"),
        ("--test-samples 0", "test_samples 0", "at least 1"),
        ("--rules BP,EP", "'EP'", "BP, IL, Z-IL, Fa-Z-IL"),
        ("--dtype float16", "'float16'", "'float32', 'float64'"),
        ("--seeds -1", "-1", "from 0 to 2^63 - 1"),
        ("--checkpoint-every 1", "--checkpoint-every", "No such option"),
    ],
}


CASES = [(module, *mistake) for module, mistakes in MISTAKES.items() for mistake in mistakes]


@pytest.mark.parametrize(
    ("module", "options", "value", "allowed"),
    CASES,
    ids=[f"{module.removeprefix('jobs.')} {options[:60]}" for module, options, *_ in CASES],
)
def test_a_wrong_value_is_refused_with_what_is_allowed_and_leaves_nothing(
    tmp_path: Path, module: str, options: str, value: str, allowed: str
) -> None:
    store = ("--store", str(tmp_path))
    line = refusal(*store, *SOUND[module], *options.split(), "--plan", module=module)
    assert value in line
    assert allowed in line
    assert files(tmp_path) == []


def test_a_wrong_value_is_refused_without_plan_just_as_well(tmp_path: Path) -> None:
    line = refusal("--store", str(tmp_path), *SMALL, "--t", "-1")
    assert "t -1" in line
    assert files(tmp_path) == []


def test_a_price_without_a_plan_is_refused(tmp_path: Path) -> None:
    line = refusal("--store", str(tmp_path), *SMALL, "--price-per-gpu-hour", "1")
    assert line.startswith("error: --price-per-gpu-hour ")


def test_a_limit_of_the_cost_without_a_price_is_refused(tmp_path: Path) -> None:
    for prices in ((), ("--price-per-gpu-hour", "2")):  # the workers have no GPU
        line = refusal("--store", str(tmp_path), *SMALL, "--max-cost", "5", *prices)
        assert line.startswith("error: --max-cost 5: ")
        assert "give --price-per-core-hour" in line
    assert files(tmp_path) == []


@pytest.mark.parametrize("plan", [["--plan"], []], ids=["plan", "run"])
def test_a_store_that_cannot_be_written_is_refused(tmp_path: Path, plan: list[str]) -> None:
    (tmp_path / "file").write_text("not a folder")
    store = tmp_path / "file" / "store"
    line = refusal("--store", str(store), *SMALL, *plan)
    assert str(store) in line
    assert "check the path, its permissions and the space on its disk" in line
    assert (tmp_path / "file").read_text() == "not a folder"


def test_a_store_of_another_kind_is_refused() -> None:
    line = refusal("--store", "gs://bucket/results", *SMALL, "--plan")
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
    line = refusal("--store", str(store), *SMALL, "--data", str(data), *plan)
    assert str(path) in line
    assert "1016 bytes" in line
    assert "47040016" in line
    assert files(store) == []


def test_a_name_that_holds_another_plan_is_refused_and_keeps_its_plan(tmp_path: Path) -> None:
    sweep = mnist_ablation(
        networks=["784-16-10"], seeds=[1], t=[None], gamma=[1.0], sigma=[0.0],
        rules=["BP", "Z-IL"],
    )  # fmt: skip
    planned(LocalStore(tmp_path), sweep, "mine")
    before = {path: path.read_bytes() for path in files(tmp_path)}
    same = ("--store", str(tmp_path), *SMALL, "--sweep", "mine")
    assert called(*same, "--seeds", "1", "--plan").code == 0
    for plan in (["--plan"], []):
        line = refusal(*same, "--seeds", "2", *plan)
        assert "sweep mine already holds another plan" in line
        assert "choose another --sweep" in line
    assert {path: path.read_bytes() for path in files(tmp_path)} == before


@pytest.mark.parametrize("module", ["jobs.collect", "jobs.status"])
@pytest.mark.parametrize(("name", "value"), [("absent", "sweep absent"), ("../x", "'../x'")])
def test_a_sweep_that_is_not_there_is_refused_and_no_store_is_made(
    tmp_path: Path, module: str, name: str, value: str
) -> None:
    for store in (tmp_path, tmp_path / "typo"):
        line = refusal("--store", str(store), "--sweep", name, module=module)
        assert value in line or str(store) in line
    assert list(tmp_path.iterdir()) == []
