"""A sweep whose shards were trained by different builds of `phases.c` has the bits of one build."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from command_lines import ROOT, called, files

SWEEP = (
    *("--sweep", "a", "--local-debug", "--no-preflight", "--networks", "784-2-10,784-3-3-10"),
    *("--t", "l,2", "--gamma", "0.5,1", "--sigma", "0,0.1"),
)
PLAIN = "cc -mno-avx512f -mno-avx2 -mno-avx -mno-fma"
"""A compiler for x86-64 of 2003, where the C library computes fma."""


def run(store: Path, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "jobs.mnist_ablation", "--store", str(store), *SWEEP],
        cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True, timeout=240,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="the flags are those of x86-64")
def test_half_of_a_sweep_by_another_build_is_audited_as_equal(tmp_path: Path) -> None:
    run(tmp_path, CC=PLAIN)
    commits = sorted(path for path in files(tmp_path) if path.name == "commit.json")
    assert len(commits) == 2
    commits[0].unlink()
    said = run(tmp_path)
    assert " in 2 shards, 1 committed already" in said
    assert "1 repeated attempts of 1 shards, all bit-identical." in said
    audited = called("--store", str(tmp_path), "--sweep", "a", module="jobs.collect")
    assert (audited.code, audited.stderr) == (0, "")
