"""Tests of the benchmark: its statistics of times, its counts, and the command as a whole.

Oracle: sums by hand. No test looks at how long anything takes.
"""

import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from command_lines import called

from jobs.benchmark.__main__ import PEERS_PYTHON, SEED, command, trials
from jobs.benchmark.arithmetic import (
    Measured,
    NeededArithmetic,
    Times,
    compared,
    count_needed,
    fastest,
    floor_ms,
    full_speed_from,
    measured_blocks,
    rotated,
)
from jobs.benchmark.contenders import Supply
from jobs.benchmark.peers_process import peers_process
from pcworker.data.batches import CHUNK
from pcworker.data.dataset import DataSet
from pcworker.data.mnist import Digits
from pcworker.errors import InputError
from pcworker.kernels.program import program
from pcworker.trials.configuration import configuration

ROOT = Path(__file__).resolve().parents[2]


def row(width: int, *learning: float) -> Measured:
    """Times of a contender whose batches are ready: their making takes 0 ms."""
    return Measured("ours", "Z-IL", width, (0.0,) * len(learning), learning)


def test_every_round_begins_one_contender_later() -> None:
    assert [rotated("ABC", turn) for turn in range(4)] == [
        ["A", "B", "C"],
        ["B", "C", "A"],
        ["C", "A", "B"],
        ["A", "B", "C"],
    ]
    assert rotated([], 3) == []


def test_a_blocks_time_is_shared_by_its_updates_and_its_trials() -> None:
    made = measured_blocks(
        "ours", "IL", 2, [Times(0.25, 1.0), Times(0.5, 2.0), Times(0.0, 1.5)], 125
    )
    assert made.batches == (1.0, 2.0, 0.0)  # in ms: a block has 250 updates
    assert made.learning == (4.0, 8.0, 6.0)
    assert made.total == [5.0, 10.0, 6.0]
    assert made.median == 6.0


def test_a_ratio_is_taken_within_its_round() -> None:
    slow, quick = row(1, 8.0, 2.0, 9.0), row(1, 4.0, 1.0, 3.0)  # the machine was busy in two rounds
    found = compared(slow, quick)
    assert (found.median, found.p10) == (2.0, 2.0)  # it is not 8 / 3
    assert found.p90 == pytest.approx(2.8)  # of 2, 2, 3: eight tenths of the way from 2 to 3


def test_the_fastest_is_so_by_the_median() -> None:
    often, once = row(4, 2.0, 2.0, 9.0), row(16, 1.0, 3.0, 3.0)
    assert fastest([once, often]) is often


@pytest.mark.parametrize(
    ("times", "found"),
    [
        ({1: 4.0, 4: 2.0, 16: 1.01, 48: 1.0}, 16),
        ({48: 1.0, 16: 1.5, 4: 1.0, 1: 1.0}, 48),  # 16 is slower, so 4 and 1 do not count
        ({1: 1.0, 4: 1.0}, 1),
        ({1: 2.0, 4: 1.0, 16: 1.5}, None),
    ],
)
def test_full_speed_begins_where_no_wider_stack_is_slower(
    times: dict[int, float], found: int | None
) -> None:
    assert full_speed_from([row(width, ms) for width, ms in times.items()], 0.02) == found


def test_products_and_sigmoids_of_a_program_are_counted() -> None:
    operations = (
        *(("predict", 1), ("begin", 1), ("activate", 1), ("predict", 0), ("clamp", 0)),
        *(("compare", 0), ("pull_back", 1), ("learn", 0), ("learn", 1)),
    )
    # There are 5 pixels (7 in the 4 samples together are not 0), 3 hidden units and 2 outputs.
    found = count_needed(operations, (2, 3, 5), 4, 7)
    assert found == NeededArithmetic(7 * 3 + 4 * 3 * 2 + 4 * 3 * 2 + 4 * 3 * 2 + 7 * 3, 4 * 3)


def test_the_counts_of_the_papers_network() -> None:
    by_rule = {
        rule: count_needed(program(trial), trial.configuration.widths, 20, 20 * 784)
        for rule, trial in trials("784-32-32-10").items()
    }
    once = 20 * (784 * 32 + 32 * 32 + 32 * 10)  # forwards; the weights take as much
    back = 20 * (32 * 32 + 32 * 10)
    assert by_rule["BP"] == by_rule["Z-IL"] == NeededArithmetic(2 * once + back, 20 * 64)
    further = (by_rule["IL, 64 steps"], by_rule["IL, 20 steps"])
    # A step predicts and pulls back in all layers but the input's, and activates 64 units.
    assert further[0].multiply_adds - further[1].multiply_adds == 44 * 2 * back
    assert further[0].sigmoids - further[1].sigmoids == 44 * 20 * 64


def test_the_floor_is_products_and_then_sigmoids() -> None:
    # 10^8 multiply-adds are 2 x 10^8 operations, which take 2 ms at 100 GFLOP/s. 10^6 sigmoids of
    # 3 ns take 3 ms.
    assert floor_ms(NeededArithmetic(1e8, 1e6), 100.0, 3.0) == pytest.approx(5.0)


def test_blocks_are_the_batches_of_a_trial_in_the_seeds_order(digits: Digits) -> None:
    config = configuration(rule="BP")
    supply = Supply(config, digits, SEED, CHUNK)
    data = DataSet(digits, torch.device("cpu"))
    chunks = list(data.chunks(config, SEED, 1, noisy=False))[:3]
    inputs = torch.cat([chunk.inputs for chunk in chunks])
    targets = torch.cat([chunk.targets for chunk in chunks])
    for block in (0, 1):
        mine, part = supply.chunk(block), slice(block * CHUNK, (block + 1) * CHUNK)
        assert torch.equal(mine.inputs, inputs[part])
        assert torch.equal(mine.targets, targets[part])
    assert torch.equal(supply.chunk(Supply.BLOCKS).inputs, inputs[:CHUNK])  # it starts over


PEER = """
import json, sys
import numpy as np
open(sys.argv[2]).close()  # the script that a real Python would run
task = np.load(sys.argv[-1], allow_pickle=False)
peers = {"pcx": ["Z-IL"], "fabricpc": ["BP"]}
hello = {"peers": peers, "versions": {"pcx": "0.1"}, "failed": {"fabricpc": "none here"}}
print(json.dumps(hello), flush=True)
for line in sys.stdin:
    request = json.loads(line)
    if "run" in request:
        assert request["run"] == "pcx Z-IL"
        answer = {"seconds": request["updates"] / 8}
    else:
        np.savez(request["to"], w0=task["w0"], w1=task["x"].shape)
        answer = {"weights": request["to"]}
    print(json.dumps(answer), flush=True)
"""


def python(folder: Path, script: str) -> Path:
    """An executable that stands for a Python, and runs `script` whatever its arguments are."""
    path = folder / "python"
    path.write_text(f"#!{sys.executable}\n{script}")
    path.chmod(0o755)
    return path


def test_a_peer_is_asked_for_a_block_at_a_time(tmp_path: Path, digits: Digits) -> None:
    trial = trials("784-16-10")["BP"]
    supply = Supply(trial.configuration, digits, SEED, 2)
    with peers_process(python(tmp_path, PEER), trial, supply, 0.001, 0.1) as process:
        assert process.failed == {"fabricpc": "none here"}
        (made,) = process.contenders(4)
        assert (made.who, made.rule, made.width) == ("pcx 0.1", "Z-IL", 1)
        assert made.run_block() == Times(0.0, 0.5)
        weights, shape = made.weights()
    assert weights.shape == (10, 16)
    assert np.array_equal(shape, [Supply.BLOCKS * 2, 20, 784])


def test_the_peers_python_is_the_one_that_make_peers_makes() -> None:
    (folder,) = re.findall(r"^PEERS := (\S+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert ROOT / folder / "bin" / "python" == PEERS_PYTHON


def test_a_peers_process_that_ends_is_said_with_its_last_words(
    tmp_path: Path, digits: Digits
) -> None:
    trial = trials("784-16-10")["BP"]
    supply = Supply(trial.configuration, digits, SEED, 2)
    broken = python(tmp_path, "import sys; sys.exit('no jax here')")
    with (
        pytest.raises(InputError, match=r"ended with 1, saying no jax here; .*make peers"),
        peers_process(broken, trial, supply, 0.001, 0.1),
    ):
        pass


def test_the_command_prints_every_contender_and_all_tables() -> None:
    counts = ("--rounds", "2", "--updates", "3", "--widths", "1,2", "--network", "784-16-16-10")
    done = called("--no-peers", *counts, module="jobs.benchmark")
    assert (done.code, done.stderr) == (0, "")
    lines = [[cell.strip() for cell in line.split("│")] for line in done.stdout.splitlines()]
    rows = [cells[1:4] for cells in lines if len(cells) == 10]
    inference = [
        [rule, who, str(width)]
        for rule in ("Z-IL", "IL, 20 steps", "IL, 64 steps")
        for who in ("ours", "torch operations")
        for width in (1, 2)
    ]
    bp = [["BP", "ours", "1"], ["BP", "ours", "2"], ["BP", "torch autograd", "1"]]
    assert rows == [*inference, *bp]
    off = [(cells[2], float(cells[8])) for cells in lines if len(cells) == 10]
    assert {far for who, far in off if who == "ours"} == {0.0}
    assert max(far for who, far in off) < 1e-6  # torch adds up in another order
    rules = ["Z-IL", "IL, 20 steps", "IL, 64 steps", "BP"]
    assert [cells[1] for cells in lines if len(cells) == 6][:4] == rules  # the rows by width
    assert [cells[1] for cells in lines if len(cells) == 12] == rules  # the rows of the floor
    assert "NOT measured in this run" in done.stdout


@pytest.mark.parametrize(
    ("option", "value", "allowed"),
    [
        ("--network", "784-32-5", "784 to 10"),
        ("--widths", "0,4", "from 1 to 10000"),
        ("--widths", "4,10001", "from 1 to 10000"),
        ("--network", f"784-{'9' * 5000}-10", "below 10"),
        ("--widths", "4,4", "each once"),
    ],
)
def test_a_wrong_value_is_refused_with_what_is_allowed(
    option: str, value: str, allowed: str
) -> None:
    with pytest.raises(InputError, match=f"{value}.*{allowed}"):
        command([option, value], standalone_mode=False)


def test_a_python_that_is_not_there_is_refused(digits: Digits) -> None:
    trial = trials("784-16-10")["BP"]
    supply = Supply(trial.configuration, digits, SEED, 2)
    with (
        pytest.raises(InputError, match=r"--peers-python /no/such/python: .*make peers"),
        peers_process(Path("/no/such/python"), trial, supply, 0.001, 0.1),
    ):
        pass
