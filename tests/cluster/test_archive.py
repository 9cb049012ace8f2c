"""Tests of exporting and restoring a sweep. Results are made up (see `builders`)."""

import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from buckets import fresh_url
from builders import ablation, collected, commit, commit_all, flipped, planned, record_failure
from command_lines import Ended, called, files, refusal
from seaweed import Seaweed

from cluster.archive.layout import sha256, to_manifest
from cluster.archive.restore import restore_sweep
from cluster.results import tables as results_tables
from cluster.sweeps.plan import Plan
from cluster.sweeps.stored import read_plan
from jobs.experiments import EXPERIMENTS
from pcworker.errors import InputError
from pcworker.store.keys import SweepKeys
from pcworker.store.local import LocalStore
from pcworker.store.store import Store, open_store

KINDS = ("a", "a.tar.gz", "a.zip")
"""The three forms of an archive: a folder, and two kinds of files."""


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "store")


@pytest.fixture
def other(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "other")


def whole(store: Store, name: str = "a") -> Plan[Any]:
    """Stores a finished sweep, with what it has left beside its results."""
    plan = planned(store, ablation(networks=["784-2-10", "784-4-10"]), name)
    record_failure(store, plan, plan.shards[0], quarantined=False)
    commit_all(store, plan)
    shard = plan.shards[0]
    commit(store, plan, shard, attempt="late")  # It loses.
    store.put(plan.keys.checkpoint(shard.shard_id, "late", 1), b"1")
    return plan


def export(store: Store, to: Path, *options: str) -> Ended:
    at = (*store.options.split(), "--sweep", "a", "--to", str(to))
    return called(*at, *options, module="jobs.export")


def exported(store: Store, to: Path) -> Path:
    done = export(store, to)
    assert (done.code, done.stderr) == (0, "")
    return to


def restored(source: Path, store: Store) -> Ended:
    return called(str(source), *store.options.split(), module="jobs.restore")


def tables(store: Store) -> dict[str, list[dict[str, Any]]]:
    return {name: rows.to_pylist() for name, rows in collected(store, "a").tables.items()}


def objects(store: Store) -> dict[str, bytes]:
    return {key: store.get(key) or b"" for key in store.list("sweeps/")}


@pytest.mark.parametrize("kind", KINDS)
def test_a_restored_sweep_has_the_same_tables(
    store: LocalStore, other: LocalStore, tmp_path: Path, kind: str
) -> None:
    plan = whole(store)
    before = objects(store)
    source = exported(store, tmp_path / "made" / kind)
    assert objects(store) == before
    assert [path.name for path in (tmp_path / "made").iterdir()] == [kind]
    done = restored(source, other)
    assert (done.code, done.stderr) == (0, "")
    assert tables(other) == tables(store)
    late = {key for key in before if "/late/" in key or "/attempt.json" in key}
    assert objects(other) == {key: data for key, data in before.items() if key not in late}
    again = restored(source, other)
    assert (again.code, "0 objects written" in again.stdout) == (0, True)
    assert called(*other.options.split(), "--sweep", plan.name, module="jobs.collect").code == 0


@pytest.mark.parametrize("kind", KINDS)
def test_a_sweep_that_is_not_finished_goes_on_in_the_other_store(
    store: LocalStore, other: LocalStore, tmp_path: Path, kind: str
) -> None:
    plan = planned(store, ablation(), "a")
    first, *others = plan.shards
    commit(store, plan, first)
    assert restored(exported(store, tmp_path / kind), other).code == 0
    there = read_plan(other, "a", EXPERIMENTS)
    assert there is not None and there.shards == plan.shards
    for shard in others:
        commit(store, plan, shard)
        commit(other, there, shard)
    assert tables(other) == tables(store)


def test_buckets_and_folders_are_the_same(
    server: Seaweed, store: LocalStore, tmp_path: Path
) -> None:
    whole(store)
    bucket = open_store(fresh_url(server.server), server.server.endpoint)
    there = tmp_path / "from a folder.zip"
    assert restored(exported(store, there), bucket).code == 0
    assert tables(bucket) == tables(store)
    at = ("--store", store.url, "--other-store", *bucket.options.split()[1:])
    assert called("a", "a", *at, module="jobs.compare").code == 0
    back = LocalStore(tmp_path / "back")
    assert restored(exported(bucket, tmp_path / "from a bucket.tar.gz"), back).code == 0
    assert objects(back) == objects(bucket)


@pytest.mark.parametrize("large_bytes", [results_tables.LARGE_BYTES, 1])
def test_an_archive_can_be_read_and_checked_without_us(
    store: LocalStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, large_bytes: int
) -> None:
    """A table may be one file or a folder of parts."""
    monkeypatch.setattr(results_tables, "LARGE_BYTES", large_bytes)
    whole(store)
    folder = exported(store, tmp_path / "archive")
    monkeypatch.chdir(folder)
    subprocess.run(["sha256sum", "--check", "--strict", "manifest-sha256.txt"], check=True)
    listed = (folder / "manifest-sha256.txt").read_text().splitlines()
    assert len(listed) == len(files(folder)) - 1
    card = (folder / "README.md").read_text()
    code = card.split("```python\n")[1].split("```")[0]
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)
    for table in (folder / "tables").iterdir():
        first = next(table.iterdir()) if table.is_dir() else table
        for column in pq.read_schema(first).names:
            assert f"{column} " in card.split(f"### The table {table.stem}\n")[1].split("###")[0]
    for word in ("16 trials", "MIT", "torch 0.0", "here, cpu: by hand", "jobs.restore"):
        assert word in card


def test_the_metadata_is_a_crate_with_all_that_is_required(
    store: LocalStore, tmp_path: Path
) -> None:
    """The requirements are those of RO-Crate 1.1: the root, its descriptor, and every part."""
    whole(store)
    folder = tmp_path / "archive"
    assert export(store, folder, "--licence", "CC-BY-4.0").code == 0
    body = json.loads((folder / "ro-crate-metadata.json").read_text())
    assert body["@context"] == "https://w3id.org/ro/crate/1.1/context"
    entities = {each["@id"]: each for each in body["@graph"]}
    assert len(entities) == len(body["@graph"])
    descriptor, root = entities["ro-crate-metadata.json"], entities["./"]
    assert descriptor["@type"] == "CreativeWork"
    assert descriptor["about"] == {"@id": "./"}
    assert descriptor["conformsTo"] == {"@id": "https://w3id.org/ro/crate/1.1"}
    assert root["@type"] == "Dataset"
    assert all(root[name] for name in ("name", "description", "datePublished", "license"))
    assert entities[root["license"]["@id"]]["identifier"] == "CC-BY-4.0"
    parts = [part["@id"] for part in root["hasPart"]]
    assert all((folder / part).exists() for part in parts)
    assert all(entities[part]["@type"] in ("File", "Dataset") for part in parts)
    inside = {path.relative_to(folder).as_posix() for path in files(folder)}
    outside_store = {name for name in inside if not name.startswith("store/")}
    assert outside_store == {*parts, "ro-crate-metadata.json"} - {"store/"}
    assert all("@type" in each for each in entities.values())


def refused(source: Path, store: LocalStore, *words: str) -> None:
    """Checks that an archive is refused in one line, and that nothing was written."""
    before = objects(store)
    line = refusal(str(source), *store.options.split(), module="jobs.restore")
    for word in words:
        assert word in line, line
    assert objects(store) == before
    assert not store.list("sweeps/a/") or before


def test_a_changed_byte_in_any_file_is_refused(
    store: LocalStore, other: LocalStore, tmp_path: Path
) -> None:
    whole(store)
    folder = exported(store, tmp_path / "archive")
    for path in sorted(files(folder)):
        data = path.read_bytes()
        path.write_bytes(flipped(data, len(data) // 2))
        refused(folder, other, "archive")
        path.unlink()
        refused(
            folder,
            other,
            "archive",
            "manifest-sha256.txt" if "manifest" in path.name else "is missing",
        )
        path.write_bytes(data)
    assert restored(folder, other).code == 0


@pytest.mark.parametrize("kind", KINDS[1:])
def test_a_file_that_is_cut_off_is_refused(
    store: LocalStore, other: LocalStore, tmp_path: Path, kind: str
) -> None:
    whole(store)
    source = exported(store, tmp_path / kind)
    data = source.read_bytes()
    for length in (0, 1, 100, *(len(data) * k // 16 for k in range(1, 16)), len(data) - 9):
        source.write_bytes(data[:length])
        refused(source, other, "archive")


@pytest.mark.parametrize("kind", KINDS[1:])
def test_a_flipped_bit_anywhere_is_refused_or_does_no_harm(
    store: LocalStore, tmp_path: Path, kind: str
) -> None:
    whole(store)
    source = exported(store, tmp_path / kind)
    data, expected = source.read_bytes(), None
    for number, place in enumerate((*range(40), *range(40, len(data), len(data) // 50))):
        source.write_bytes(flipped(data, place))
        target = LocalStore(tmp_path / f"target-{number}")
        done = restored(source, target)
        if done.code == 0:  # The bit was in a time, or in another field that says nothing.
            expected = expected or tables(store)
            assert tables(target) == expected
        else:
            assert (done.code, done.stderr.count("\n")) == (2, 1)
            assert not files(target.root)


Spoil = Callable[[tarfile.TarFile], None]


def add(name: str, **fields: Any) -> Spoil:
    def spoil(archive: tarfile.TarFile) -> None:
        member = tarfile.TarInfo(name)
        for field, value in fields.items():
            setattr(member, field, value)
        archive.addfile(member, io.BytesIO(bytes(member.size)))

    return spoil


SPOILT = {
    "a parent": (add("../outside", size=1), "could lead out"),
    "a parent inside": (add("a/tables/../../../outside", size=1), "could lead out"),
    "an absolute name": (add("/tmp/outside", size=1), "could lead out"),
    "an empty part": (add("a//x", size=1), "could lead out"),
    "a symbolic link": (add("a/link", type=tarfile.SYMTYPE, linkname="/etc"), "is a link"),
    "a hard link": (add("a/link", type=tarfile.LNKTYPE, linkname="a/README.md"), "is a link"),
    "a device": (add("a/null", type=tarfile.CHRTYPE), "is a link or a device"),
    "a sparse file": (add("a/sparse", type=tarfile.GNUTYPE_SPARSE), ""),
    "an extra file": (add("a/extra", size=1), "'extra' is not in its manifest"),
    "an extra object": (add("a/store/sweeps/b/plan.json", size=1), "is not in its manifest"),
    "a second file": (add("a/README.md", size=1), "is there twice"),
    "a file in the place of a folder": (add("a/store", size=1), "is there twice"),
    "a file beside the folder": (add("x", size=1), "it has no manifest"),
}


@pytest.mark.parametrize("name", SPOILT)
def test_what_does_not_belong_into_an_archive_is_refused(
    store: LocalStore, other: LocalStore, tmp_path: Path, name: str
) -> None:
    whole(store)
    source, spoilt = exported(store, tmp_path / "a.tar.gz"), tmp_path / "spoilt.tar.gz"
    spoil, word = SPOILT[name]
    with tarfile.open(source) as old, tarfile.open(spoilt, "w:gz") as new:
        for member in old:
            new.addfile(member, old.extractfile(member))
        spoil(new)
    refused(spoilt, other, word)
    assert not list(tmp_path.glob("**/outside"))


def test_a_zip_file_that_does_not_say_what_its_entries_are_is_restored(
    store: LocalStore, other: LocalStore, tmp_path: Path
) -> None:
    """Python's own writer gives files permissions, and no type."""
    whole(store)
    source, again = exported(store, tmp_path / "a.zip"), tmp_path / "again.zip"
    with zipfile.ZipFile(source) as archive, zipfile.ZipFile(again, "w") as copy:
        for name in archive.namelist():
            copy.writestr(name, archive.read(name))
    done = restored(again, other)
    assert (done.code, done.stderr) == (0, "")
    assert tables(other) == tables(store)


def test_links_are_refused_in_a_zip_file_and_in_a_folder(
    store: LocalStore, other: LocalStore, tmp_path: Path
) -> None:
    whole(store)
    source = exported(store, tmp_path / "a.zip")
    with zipfile.ZipFile(source, "a") as archive:
        link = zipfile.ZipInfo("a/link")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "/etc/passwd")
    refused(source, other, "is a link")
    folder = exported(store, tmp_path / "folder")
    card = folder / "README.md"
    card.rename(tmp_path / "card")
    os.symlink(tmp_path / "card", card)
    refused(folder, other, "is a link")


def test_a_forged_archive_with_right_checksums_is_refused(
    store: LocalStore, other: LocalStore, tmp_path: Path
) -> None:
    plan = whole(store)
    folder = exported(store, tmp_path / "archive")
    root = folder / "store" / plan.keys.root
    first, second = (shard.shard_id for shard in plan.shards[:2])
    extra = root / "shards" / first / "attempts" / "x" / "trials.parquet"
    forgeries: dict[str, Callable[[], object]] = {
        "no commit names it": lambda: extra.parent.mkdir() or extra.write_bytes(b"1"),
        "other trials": lambda: shutil.copy(
            root / "shards" / first / "commit.json", root / "shards" / second / "commit.json"
        ),
        "has no plan": lambda: (root / "plan.json").unlink(),
        "2 sweeps": lambda: shutil.copytree(root, root.parent / "b"),
        "does not belong": lambda: (root / "notes.txt").write_text("x"),
        "0 sweeps": lambda: shutil.rmtree(folder / "store"),
    }
    for word, forge in forgeries.items():
        kept = tmp_path / "kept"
        shutil.copytree(folder, kept)
        forge()
        resealed(folder)
        refused(folder, other, "" if word == "other trials" else word)
        shutil.rmtree(folder)
        kept.rename(folder)


def resealed(folder: Path) -> None:
    """Writes a manifest that fits the files as they are."""
    inside = {path.relative_to(folder).as_posix(): path for path in files(folder)}
    del inside["manifest-sha256.txt"]
    digests = {name: sha256(path.read_bytes()) for name, path in inside.items()}
    (folder / "manifest-sha256.txt").write_bytes(to_manifest(digests))


def test_a_taken_name_is_refused(store: LocalStore, other: LocalStore, tmp_path: Path) -> None:
    plan = whole(store)
    source = exported(store, tmp_path / "a.zip")
    planned(other, ablation(seeds=[7]), "a")
    refused(source, other, "a sweep of this name", "jobs.delete")
    fresh = LocalStore(tmp_path / "fresh")
    fresh.put(plan.keys.report("notes.md"), b"mine")
    refused(source, fresh, "other objects in the folder of this name")
    changed = LocalStore(tmp_path / "changed")
    assert restored(source, changed).code == 0
    changed.put(plan.keys.commit(plan.shards[0].shard_id), b"{}")
    refused(source, changed, "a sweep of this name")


class Dies(LocalStore):
    """A store whose process is killed at one of its writes."""

    def __init__(self, root: Path, after: int) -> None:
        super().__init__(root)
        self.left = after

    def put_if_absent(self, key: str, data: bytes) -> bool:
        if self.left == 0:
            raise KeyboardInterrupt
        self.left -= 1
        return super().put_if_absent(key, data)


def test_a_restoring_that_is_killed_leaves_no_sweep_and_goes_on(
    store: LocalStore, tmp_path: Path
) -> None:
    plan = whole(store)
    source = exported(store, tmp_path / "archive")
    count = len(files(source / "store"))
    for after in range(count + 2):  # Before all others are the two writes of a check.
        root = tmp_path / f"killed-{after}"
        with pytest.raises(KeyboardInterrupt):
            restore_sweep(source, Dies(root, after), EXPERIMENTS)
        target = LocalStore(root)
        assert target.get(SweepKeys("a").plan) is None
        for shard in plan.shards:  # A commit is there only after its files are.
            if data := target.get(plan.keys.commit(shard.shard_id)):
                assert all(target.get(each["key"]) for each in json.loads(data)["files"])
        done = restore_sweep(source, target, EXPERIMENTS)
        assert done.written + done.there == count
    assert tables(target) == tables(store)


def test_somebody_who_writes_the_same_name_meanwhile_is_noticed(
    store: LocalStore, tmp_path: Path
) -> None:
    whole(store)
    source = exported(store, tmp_path / "archive")

    class Raced(LocalStore):
        def put_if_absent(self, key: str, data: bytes) -> bool:
            if key == SweepKeys("a").plan:
                planned(LocalStore(self.root), ablation(seeds=[7]), "a")
            return super().put_if_absent(key, data)

    with pytest.raises(InputError, match="written meanwhile"):
        restore_sweep(source, Raced(tmp_path / "raced"), EXPERIMENTS)


def test_an_export_of_damage_or_onto_something_leaves_nothing(
    store: LocalStore, tmp_path: Path
) -> None:
    plan = whole(store)
    at = (*store.options.split(), "--sweep", "a", "--to")
    taken = tmp_path / "taken.zip"
    taken.write_text("mine")
    assert "is there already" in refusal(*at, str(taken), module="jobs.export")
    assert taken.read_text() == "mine"
    assert "ends in .tar.gz or .zip" in refusal(*at, str(tmp_path / "a.tgz"), module="jobs.export")
    key = next(key for key in store.list(plan.keys.shards) if key.endswith("first/weights.parquet"))
    store.put(key, flipped(store.get(key) or b"", 9))
    made = tmp_path / "made"
    assert "is damaged" in refusal(*at, str(made / "a.zip"), module="jobs.export")
    assert not list(made.iterdir())
