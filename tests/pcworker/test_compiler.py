"""`fused.c` and `phases.c` are compiled once per machine, where there is no `cc` by the package
ziglang. What is kept of them is checked before it is loaded. If a compiler was named and fails, the
user is told."""

import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from power_loss import Disk
from running import ROOT

from pcworker.errors import InputError
from pcworker.kernels.compiler import DEBUG_BUILD
from pcworker.kernels.exactness import try_exactness
from pcworker.kernels.fixed.library import built
from pcworker.kernels.fused import library

needs_compiler = pytest.mark.skipif(
    shutil.which("cc") is None or library.load() is None,
    reason="fused.c cannot be compiled here: no C compiler, or no AVX2 with FMA",
)


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """An empty cache."""
    monkeypatch.setenv("ZILSWEEP_CACHE", str(tmp_path / "cache"))
    for name in ("CC", DEBUG_BUILD):
        monkeypatch.delenv(name, raising=False)
    library.attempt.cache_clear()
    yield tmp_path / "cache"
    library.attempt.cache_clear()


def loads() -> bool:
    """True if a process that begins now has the library."""
    library.attempt.cache_clear()
    return library.load() is not None


def script(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(["#!/bin/sh", *lines, ""]))
    path.chmod(0o755)
    return path


@needs_compiler
def test_a_damaged_library_is_not_loaded_but_compiled_anew(cache: Path) -> None:
    assert loads()
    [kept] = cache.iterdir()
    whole = kept.read_bytes()
    flipped = bytes([*whole[:2000], whole[2000] ^ 1, *whole[2001:]])
    for damaged in (b"", flipped, whole[: len(whole) // 2]):
        new = kept.with_suffix(".new")
        new.write_bytes(damaged)
        new.replace(kept)  # this process has mapped the old file
        assert loads()
        [found] = cache.iterdir()
        assert found.read_bytes() == whole


@needs_compiler
def test_a_truncated_library_kills_no_process(cache: Path) -> None:
    """The loader would map the file's pages, also those that are not there any more: SIGBUS."""
    assert loads()
    [kept] = cache.iterdir()
    new = kept.with_suffix(".new")
    new.write_bytes(kept.read_bytes()[:5000])
    new.replace(kept)
    program = "from pcworker.kernels.fused import library; print(library.load() is not None)"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "True\n"), done


@needs_compiler
def test_a_library_is_compiled_once_and_kept_through_a_power_loss(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = Disk()
    monkeypatch.setattr(os, "fsync", disk.fsync)
    assert loads()
    [kept] = cache.iterdir()
    assert disk.after_power_loss(tmp_path) == {f"cache/{kept.name}": kept.read_bytes()}
    disk.close()
    made = kept.stat().st_mtime_ns
    assert loads()
    assert [path.stat().st_mtime_ns for path in cache.iterdir()] == [made]


@needs_compiler
@pytest.mark.skipif(platform.machine() != "x86_64", reason="-m64 is an option of x86 compilers")
def test_a_compiler_may_be_a_command_of_several_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    launcher = script(tmp_path / "a launcher", 'exec "$@"')
    monkeypatch.setenv("CC", f"'{launcher}' cc -m64")
    assert loads()
    assert library.trouble() is None


@pytest.mark.parametrize(
    ("named", "reason"),
    [
        ("no-such-compiler -m64", "No such file or directory)"),
        ("'cc", "No closing quotation"),
        ("false", "it ends with status 1"),
        ("true", "it makes no file"),
        ("./cc -m64", "fused.c:1: error: no such option"),
    ],
)
def test_a_compiler_that_was_named_and_fails_is_told_in_one_line(
    named: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cpu: torch.device
) -> None:
    """`phases.c` has no substitute. That of `fused.c` is torch, and the worker tells it."""
    monkeypatch.chdir(tmp_path)
    shouts = "echo In function: >&2; echo '  fused.c:1: error: no such option' >&2; exit 1"
    script(tmp_path / "cc", '[ "$2" = --version ] && exit 0', shouts)
    monkeypatch.setenv("CC", named)
    assert not loads()
    assert f"CC={named} does not compile fused.c ({reason}" in (library.trouble() or "")
    assert "slower; correct CC, or unset it" in (library.trouble() or "")
    assert "\n" not in (library.trouble() or "")
    assert try_exactness(cpu, "library").kernel_trouble == library.trouble()
    refusal = the_refusal_of_phases()
    assert refusal.startswith(f"CC={named} does not compile phases.c ({reason.rstrip(')')}")
    assert refusal.endswith("correct CC, or unset it")


def the_refusal_of_phases() -> str:
    with pytest.raises(InputError) as error:
        built.__wrapped__("float32")
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.fixture
def no_cc(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Nothing is found on PATH but what a test puts there, and there is no home to write to."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setenv("HOME", str(tmp_path / "no-home"))
    return folder


@pytest.mark.parametrize("named", [None, "", " "])
def test_without_a_compiler_fused_is_not_missed_and_phases_is_refused(
    named: str | None, no_cc: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without = script(tmp_path / "python", "echo No module named ziglang >&2; exit 1")
    monkeypatch.setattr(sys, "executable", str(without))
    if named is not None:
        monkeypatch.setenv("CC", named)
    assert not loads()
    assert library.trouble() is None
    assert the_refusal_of_phases() == (
        "phases.c cannot be compiled here (cc: No such file or directory; ziglang: No module named "
        "ziglang); install a C compiler or the package ziglang, or name a compiler in CC"
    )


def test_where_cc_is_missing_or_fails_ziglang_compiles_and_writes_nothing_but_the_library(
    no_cc: Path, cache: Path, tmp_path: Path
) -> None:
    code = built.__wrapped__("float32").code
    assert code.made_by().startswith(b"Clang")
    script(no_cc / "cc", "exit 1")
    assert built.__wrapped__("float32").code.made_by() == code.made_by()
    assert [path.name.partition("-")[0] for path in cache.iterdir()] == ["phases"]
    assert {path.name for path in tmp_path.iterdir()} == {"bin", "cache"}


@needs_compiler
def test_a_debug_build_is_another_library(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for value, builds in (("0", 0), ("1", 1), ("", 1)):
        monkeypatch.setenv(DEBUG_BUILD, value)
        assert loads()
        assert sum(b".debug_info" in path.read_bytes() for path in cache.iterdir()) == builds
    assert len(list(cache.iterdir())) == 2


@needs_compiler
def test_a_cache_that_cannot_be_written_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("ZILSWEEP_CACHE", str(tmp_path / "file" / "cache"))
    assert not loads()
    assert f"cannot be kept in {tmp_path}/file/cache" in (library.trouble() or "")
