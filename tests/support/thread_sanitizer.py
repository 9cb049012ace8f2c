"""Runs a program in a process that ThreadSanitizer watches."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def watched(program: str) -> "subprocess.CompletedProcess[str]":
    """A process that runs this program and has loaded ThreadSanitizer before all else."""
    command = ["c++", "-print-file-name=libtsan.so"]
    library = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    path = f"{ROOT}:{ROOT / 'tests' / 'support'}"
    environment = {**os.environ, "LD_PRELOAD": library, "PYTHONPATH": path}
    words = [sys.executable, "-c", program]
    return subprocess.run(words, env=environment, capture_output=True, text=True)


def require_thread_sanitizer() -> None:
    """Skips a test where ThreadSanitizer does not work."""
    if shutil.which("c++") is None:
        pytest.skip("there is no c++ here, and so no ThreadSanitizer")
    if (tried := watched("print('ready')")).stdout != "ready\n" or tried.stderr:
        pytest.skip(f"ThreadSanitizer does not work here: {tried.stderr.strip()[:200]}")
