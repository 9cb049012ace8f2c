"""Exports a sweep: it is copied into an archive, checked there, and only then gets its name."""

from datetime import UTC, datetime
from pathlib import Path

from cluster.archive.card import card_text
from cluster.archive.container import appears_whole, is_one_file, pack, plain_files, put_in_place
from cluster.archive.crate import crate_json
from cluster.archive.facts import archived_sweep
from cluster.archive.layout import CARD, CRATE, MANIFEST, STORE, sha256, to_manifest
from cluster.archive.own import checked_plan, copy_objects
from cluster.results.collect import make_tables
from cluster.results.committed import read_committed
from cluster.results.duplicates import leave_out_duplicates
from cluster.results.needed import everything
from cluster.sweeps.plan import Plan
from pcworker.store.local import LocalStore
from pcworker.store.store import Store


def export_sweep(store: Store, plan: Plan, to: Path, licence: str) -> int:
    """Exports what a sweep has now, and returns the number of files. Nothing is written into the
    store.

    to       the new folder, or the new file, if it ends in .tar.gz or .zip
    licence  the SPDX identifier of the licence of the data

    Raises InputError if something is at `to`, DamagedError if an object of the sweep is damaged.
    """
    packed = is_one_file(to)
    with appears_whole(to) as made:
        folder = made / plan.name
        count = _fill(folder, store, plan, licence)
        if packed:
            pack(folder, plan.name, made / to.name)
        put_in_place(made / to.name if packed else folder, to)
    return count


def _fill(folder: Path, store: Store, plan: Plan, licence: str) -> int:
    """Makes the folder of an archive, and returns the number of its files."""
    copy = LocalStore(folder / STORE)
    copy_objects(store, plan, copy)
    checked = checked_plan(copy, plan.name, {plan.experiment.name: plan.experiment})
    large = _write_tables(folder, copy, checked)
    today = datetime.now(UTC).date().isoformat()
    sweep = archived_sweep(copy, checked, licence, today, large)
    (folder / CARD).write_text(card_text(sweep), encoding="utf-8")
    names = plain_files(folder)
    sizes = {name: (folder / name).stat().st_size for name in names}
    (folder / CRATE).write_bytes(crate_json(sweep, sizes))
    digests = {name: sha256((folder / name).read_bytes()) for name in (*names, CRATE)}
    (folder / MANIFEST).write_bytes(to_manifest(digests))
    return len(digests) + 1


def _write_tables(folder: Path, copy: LocalStore, plan: Plan) -> list[str]:
    """Writes the tables as the collector would. Returns the names of those in several files."""
    committed = read_committed(copy, [plan], everything(plan.experiment.tables))
    leave_out_duplicates(committed)
    tables = make_tables(copy, committed, plan.experiment.derived).tables
    tables.write(copy, plan.keys)
    (folder / STORE / plan.keys.tables).rename(folder / "tables")
    return [name for name in tables if tables.is_large(name)]
