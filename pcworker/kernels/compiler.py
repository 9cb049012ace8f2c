"""Compiles a C source on this machine when it is first needed, and keeps the result in the cache.

The name of a kept file holds the sha256 of its content. So a file that was cut off or damaged does
not fit its name: it is never loaded, and the source is compiled anew. To load it could kill the
process.
"""

import hashlib
import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from pcworker.errors import first_line
from pcworker.fingerprint import fingerprint
from pcworker.machine.cache import cache_folder
from pcworker.machine.disk import Folders, replace
from pcworker.machine.processor import processor_fingerprint

DEBUG_BUILD = "ZILSWEEP_DEBUG_BUILD"
"""An environment variable. If it is 1, sources are compiled without optimisation and with what a
debugger needs. Training is then slow, and gives the same bits."""
_ZIG_CACHES = ("ZIG_GLOBAL_CACHE_DIR", "ZIG_LOCAL_CACHE_DIR")
"""The environment variables with the folders in which zig keeps what it can make again. Without
them it writes into the home, which may be read-only."""
_TIMEOUT_S = 120


class CompilerError(Exception):
    """A source cannot be compiled here."""


def named_compiler() -> str:
    """The command of a compiler that the environment variable CC names, or ""."""
    return os.environ.get("CC", "").strip()


def compiled(source: Path, flags: Sequence[str]) -> Path:
    """The library of a source, which is compiled once per machine.

    The compiler that CC names compiles it. If none is named, `cc` does, and if that is not there or
    fails, the package ziglang. Raises CompilerError if none of them can, and OSError if the library
    cannot be kept.
    """
    if os.environ.get(DEBUG_BUILD) == "1":
        flags = [*flags, "-O0", "-g"]  # of two flags -O the last one counts
    if named := named_compiler():
        return _kept_or_compiled(source, flags, _words(named))
    failures = []
    for name, command in (("cc", ["cc"]), ("ziglang", zig())):
        try:
            return _kept_or_compiled(source, flags, command)
        except CompilerError as error:
            failures.append(f"{name}: {error}")
    raise CompilerError("; ".join(failures))


def zig() -> list[str]:
    """The command of the C compiler in the package ziglang.

    Its first flag keeps a debug build from checking the source for undefined behaviour. Without the
    second one zig would first compile a runtime library that we do not need, for five seconds.
    """
    return [sys.executable, "-m", "ziglang", "cc", "-fno-sanitize=undefined", "-rtlib=none"]


def _words(named: str) -> list[str]:
    """The words of a command such as `ccache gcc`."""
    try:
        return shlex.split(named)
    except ValueError as error:  # such as a quote without its end
        raise CompilerError(first_line(error)) from error


def _kept_or_compiled(source: Path, flags: Sequence[str], command: Sequence[str]) -> Path:
    version = _output([*command, "--version"])
    made_of = [source.read_text(), *flags, *command, version, processor_fingerprint()]
    start = f"{source.stem}-{fingerprint(made_of)[:16]}-"
    folder = cache_folder().absolute()
    for kept in folder.glob(f"{start}*.so"):
        if kept.name == _name(start, kept.read_bytes()):
            return kept
        kept.unlink(missing_ok=True)
    library = _compile([*command, *flags, str(source)])
    path = folder / _name(start, library)
    Folders(folder).make(folder)
    replace(path, library)
    return path


def _name(start: str, library: bytes) -> str:
    return f"{start}{hashlib.sha256(library).hexdigest()}.so"


def _compile(command: Sequence[str]) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "made.so"
        _output([*command, "-o", str(made), "-lm"])
        if not made.is_file():
            raise CompilerError("it makes no file")
        return made.read_bytes()


def _output(command: Sequence[str]) -> str:
    """What a command prints. Raises CompilerError, with one line of its own, if it fails."""
    try:
        with tempfile.TemporaryDirectory() as folder:
            done = subprocess.run(
                command,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=_TIMEOUT_S,
                env=os.environ | {name: folder for name in _ZIG_CACHES},
            )
    except OSError as error:
        raise CompilerError(error.strerror) from error
    except subprocess.SubprocessError as error:
        raise CompilerError(first_line(error)) from error
    if done.returncode:
        said = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        errors = [line for line in said if "error" in line]
        status = f"it ends with status {done.returncode}"
        raise CompilerError((errors or said or [status])[0])
    return done.stdout
