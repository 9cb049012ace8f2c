"""any_network as researchers start it: options, plans, a run, its tables and what it prints."""

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from builders import collected
from command_lines import Ended, called, files, refusal, started
from pages import page_of_collected, require_same_answers
from rich.console import Console

from cluster.results.collect import collect, stored_plans
from cluster.sweeps.sweep import Sweep
from jobs.any_network.configuration import network_configuration
from jobs.any_network.cost import network_packs, network_seconds, network_sizes
from jobs.any_network.shown.levelling import levelling_drawn, residual_block, two_time_steps
from jobs.any_network.shown.report import print_networks
from jobs.any_network.shown.views import comparisons, elsewhere, method_name, method_names
from jobs.any_network.sweep import any_network
from jobs.experiments import EXPERIMENTS
from pcworker.data.picture_sets import PICTURE_SETS
from pcworker.errors import InputError
from pcworker.networks.zoo.facts import GRAPHS
from pcworker.store.local import LocalStore

ANY = "jobs.any_network"
SMALL = (
    *("--networks", "cnn,resnet-small", "--updates", "4", "--batch-size", "4", "--t", "3"),
    *("--test-samples", "100", "--ablation", "--cpus-per-worker", "1"),
)


def declared(**changes: Any) -> Sweep[Any]:
    return any_network(**({"networks": ["cnn", "rnn"], "seeds": [1, 2]} | changes))


def test_every_network_has_bp_and_what_is_compared_with_it() -> None:
    configurations = [cell.configuration for cell in declared().cells]
    assert len(configurations) == 2 * 6
    found = [method_name(vars(each)) for each in configurations[:6]]
    assert found == [
        "BP", "Z-IL", "Z-IL, literal", "Fa-Z-IL, literal", "Z-IL, no identity vertices",
        "IL, t = 20, gamma 0.1",
    ]  # fmt: skip
    assert {each.twin() for each in configurations[:6]} == {configurations[0]}


def test_the_ablation_breaks_one_condition_at_a_time() -> None:
    cells = declared(networks=["cnn"], ablation=True).cells
    panels = [cell.panel for cell in cells]
    assert {panel: panels.count(panel) for panel in ("C1", "C2", "C3")} == {
        "C1": 2, "C2": 5, "C3": 3,
    }  # fmt: skip
    for cell in cells:
        config = cell.configuration
        assert (bool(config.sigma)) == (cell.panel == "C1")
        if cell.panel == "C3":
            assert config.gamma not in (None, 1.0)


def test_a_shard_is_a_network_and_a_seed_with_bp_first() -> None:
    shards = network_packs(declared(ablation=True).trials)
    assert len(shards) == 4
    for shard in shards:
        assert [trial.configuration.rule for trial in shard].index("BP") == 0
        assert len({(t.configuration.network, t.seed) for t in shard}) == 1
        assert network_seconds(shard) > 0


def test_every_network_of_a_set_of_pictures_has_its_sizes() -> None:
    for data in PICTURE_SETS:
        for network in GRAPHS:
            try:
                config = network_configuration(network=network, rule="BP", data=data)
            except InputError:
                assert data == "directory"
                continue
            assert network_sizes(config).parameters > 0


def test_cuts_and_a_view_are_part_of_a_trial() -> None:
    natural = network_configuration(network="resnet-small", rule="Z-IL")
    assert natural.cut_names == GRAPHS["resnet-small"].cuts
    own = network_configuration(network="a:b", rule="Z-IL", cuts="x,y", view="rows")
    assert (own.cut_names, own.view) == (("x", "y"), "rows")
    assert network_configuration(network="a:b", rule="Z-IL").cut_names is None


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Ended]:
    store = tmp_path_factory.mktemp("store")
    return store, called(*where(store), *SMALL, "--local-debug", module=ANY)


def where(store: Path) -> tuple[str, ...]:
    return "--store", str(store), "--sweep", "a"


def table(store: Path) -> Path:
    return store / "sweeps" / "a" / "tables" / "networks.parquet"


def rows(store: Path) -> pd.DataFrame:
    return pd.read_parquet(table(store))


def test_it_ends_well_and_says_what_it_has_found(run: tuple[Path, Ended]) -> None:
    store, ended = run
    assert (ended.code, ended.stderr) == (0, "")
    for part in (
        "32 trials in 2 shards",
        "Divergence of the final weights from BP's",
        "Z-IL, no identity vertices",
        "these numbers are second-hand",
        "resnet-small (residual): 24,442 parameters, 8 vertices, 8 levels, 3 identity vertices",
        "Z-IL on a levelled graph, sigma 0, gamma 1: 5 of 5 cells have BP's bits.",
        f"Tables: {store}/sweeps/a/tables/{{networks,weights,failures}}.parquet",
    ):
        assert part in ended.stdout, part


def test_zero_stands_where_the_theorem_holds(run: tuple[Path, Ended]) -> None:
    found = rows(run[0])
    held = found[(found.rule == "Z-IL") & found.levelled & (found.sigma == 0) & (found.gamma == 1)]
    assert len(held) == 4
    assert held.exact.all()
    assert (held.weight_l2_to_bp == 0).all()
    unlevelled = found[found.levelled == False]  # noqa: E712  (it is a column with nulls)
    by_network = dict(zip(unlevelled.network, unlevelled.exact, strict=True))
    assert by_network == {"cnn": True, "resnet-small": False}  # a chain needs no identity vertex
    assert not found[found.sigma > 0].exact.any()


def test_the_weights_in_the_store_say_the_same(run: tuple[Path, Ended]) -> None:
    folder = run[0] / "sweeps" / "a" / "tables"
    query = f"""
        SELECT n.trial_id, bool_and(w.sha256 = b.sha256) = any_value(n.exact)
        FROM '{folder}/networks.parquet' n
        JOIN '{folder}/weights.parquet' w USING (trial_id)
        JOIN '{folder}/networks.parquet' bp ON bp.network = n.network AND bp.rule = 'BP'
        JOIN '{folder}/weights.parquet' b ON b.trial_id = bp.trial_id AND b.parameter = w.parameter
        GROUP BY ALL
    """
    found = duckdb.sql(query).fetchall()
    assert len(found) == 32
    assert all(same for _, same in found)


def test_every_row_says_what_was_trained(run: tuple[Path, Ended]) -> None:
    found = rows(run[0])
    assert set(found[found.rule != "IL"].status) == {"done"}
    assert set(found.family) == {"chain", "residual"}
    assert set(found.data) == {"mnist"}
    assert (found.ms_per_update_p10 <= found.ms_per_update_median).all()
    assert (found.peak_memory_bytes > 4 * found.parameters).all()
    bp = found[found.rule == "BP"]
    assert set(bp.ratio_to_bp_median) == {1.0}
    assert (bp.test_error == bp.bp_test_error).all()
    assert bp.levelled.isna().all()


def test_cells_are_compared_over_seeds(run: tuple[Path, Ended]) -> None:
    once = pq.read_table(table(run[0])).to_pylist()
    twice = [row | {"seed": seed} for row in once for seed in (1, 2)]
    for row in twice:
        if row["seed"] == 2 and row["weight_l2_to_bp"]:
            row["weight_l2_to_bp"] *= 3
    found = comparisons(twice)
    assert [each.network for each in found] == ["cnn", "resnet-small"]
    assert method_names(found)[:2] == ["Z-IL", "Z-IL, literal"]
    for each in found:
        assert each.bp.name == "BP"
        for cell in each.cells:
            assert len(cell.rows) == 2
    cell = found[1].cell("Z-IL, no identity vertices")
    assert cell is not None
    numbers = cell.numbers("weight_l2_to_bp")
    first = min(row["weight_l2_to_bp"] for row in cell.rows)
    assert numbers is not None and numbers.sd is not None
    assert numbers.mean == pytest.approx(2 * first)
    assert numbers.sd == pytest.approx(2 * first / 2**0.5)
    nearest = [cell.numbers("weight_l2_to_bp") for _, cell in elsewhere(found)]
    means = [each.mean for each in nearest if each is not None]
    assert means == sorted(means)
    assert found[0].cell("no such method") is None


def test_it_is_said_whose_weights_are_not_finite(run: tuple[Path, Ended]) -> None:
    out = io.StringIO()
    console = Console(file=out, width=400, markup=False)
    found = collect(LocalStore(run[0]), stored_plans(LocalStore(run[0]), ["a"], EXPERIMENTS))
    table = found.tables["networks"].to_pandas()
    norms = [f"weight_{kind}_to_bp" for kind in ("l2", "l1", "maxabs")]
    table.loc[table.network == "cnn", norms] = None
    table.loc[(table.network == "cnn") & (table.rule == "BP"), "status"] = "nonfinite"
    made = pa.Table.from_pandas(table, found.tables["networks"].schema, preserve_index=False)
    print_networks(console, replace(found, tables={**found.tables, "networks": made}))
    assert "finite; BP's are not" in out.getvalue()
    assert "sigma 0, gamma 1: 2 of 2 cells have BP's bits." in out.getvalue()


def test_every_number_of_the_report_page_comes_from_its_query(run: tuple[Path, Ended]) -> None:
    store = LocalStore(run[0])
    made = collected(store, "a")
    page = page_of_collected(store, made)
    require_same_answers(store, made, page)
    of_z_il = [
        row
        for row in page.answer("l2").rows
        if (row["rule"], row["levelled"], row["gamma"], row["sigma"]) == ("Z-IL", True, 1.0, 0.0)
    ]
    assert {row["exact"] for row in of_z_il} == {True}
    assert {row["network"] for row in page.answer("peak_mib").rows} == set(rows(run[0]).network)


def test_the_collector_prints_the_same_again(run: tuple[Path, Ended]) -> None:
    store, first = run
    again = called(*where(store), module="jobs.collect")
    assert again.code == 0
    assert first.stdout[first.stdout.index("Their Table 1") :] in again.stdout


def test_a_network_of_ones_own_runs_on_a_real_ray(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my_networks.py").write_text(
        "from torch import nn\n"
        "class Skip(nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.a, self.b, self.c = nn.Linear(56, 8), nn.Linear(8, 8), nn.Linear(112, 10)\n"
        "    def forward(self, x):\n"
        "        x = self.a(x)\n"
        "        return self.c((x + self.b(x.tanh())).flatten(1))\n"
        "def skip(): return Skip()\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    own = ("--networks", "my_networks:skip", "--view", "rows", "--cuts", "a,b", "--updates", "3")
    ended = started(
        *where(tmp_path / "store"), *own, "--test-samples", "50", "--workers", "1",
        "--cpus-per-worker", "1", module=ANY,
    )  # fmt: skip
    assert (ended.code, ended.stderr) == (0, "")
    assert "my_networks:skip (own): 1,658 parameters, 3 vertices, 3 levels" in ended.stdout
    assert "2 of 2 cells have BP's bits" in ended.stdout
    found = rows(tmp_path / "store")
    assert set(found.identities) == {1}
    assert set(found.cuts) == {"a,b"}


def test_a_data_set_that_is_not_there_is_refused_before_anything_starts(tmp_path: Path) -> None:
    store, data = tmp_path / "store", tmp_path / "data"
    data.mkdir()
    at = ("--store", str(store), "--data-set", "cifar10", "--data", str(data))
    for plan in (["--plan"], []):
        line = refusal(*at, *plan, module=ANY)
        assert "data_batch_1 is missing; give --data" in line
    assert files(store) == []


def test_the_picture_of_levelling_has_the_real_identity_vertices() -> None:
    block, steps = residual_block(), two_time_steps()
    assert [sum(map(graph.delay, graph.uses)) for graph in (block, steps)] == [1, 5]
    svg = levelling_drawn("svg").decode()
    for part in ("levelled by 1 identity vertex", "levelled by 5 identity vertices", "gates 2"):
        assert part in svg
    assert levelling_drawn().startswith(b"\x89PNG")
