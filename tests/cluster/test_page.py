"""Tests of the report page: its numbers are those of its queries, and it says what is missing.

Oracle: the queries of the page, run again on the store, and the collected tables.
"""

import io
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from builders import ablation, collected, commit, commit_all, paper_drift, planned, record_failure
from command_lines import ROOT, called, refusal
from meanwhile import Meanwhile
from pages import Page, page_of_collected, require_same_answers
from rich.console import Console

from cluster.deletion import doomed
from cluster.report.page import writing
from cluster.report.page.parts import Answered, Plots, Section
from cluster.report.publish import publish, publish_page
from cluster.results.collect import Collected, collect
from cluster.sweeps.plan import Plan
from jobs.experiments import EXPERIMENTS
from jobs.mnist_ablation import page as ablation_page
from jobs.mnist_ablation.experiment import ABLATION
from jobs.mnist_ablation.panels import MEASURES
from pcworker.store.local import LocalStore
from pcworker.trials.trial import Trial

INDEX = "sweeps/a/report/index.html"
NASTY = "</script><script>alert(1)</script><img src=x onerror=alert(2)>"


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path)


@pytest.fixture
def whole(store: LocalStore) -> Collected:
    """A sweep of two seeds, all of it committed."""
    plan = planned(store, ablation(seeds=[1, 2], networks=["784-2-10", "784-2-2-10"]), "a")
    commit_all(store, plan)
    return collect(store, [plan])


def partial_sweep(store: LocalStore) -> Plan:
    """A sweep of which one shard is committed, and the other one has failed."""
    plan = planned(store, ablation(), "a")
    commit(store, plan, plan.shards[0])
    nasty = {"traceback": NASTY, "error": NASTY, "driver": NASTY}
    record_failure(store, plan, plan.shards[1], **nasty)
    return plan


def test_every_query_of_the_page_gives_its_numbers_again(
    store: LocalStore, whole: Collected
) -> None:
    require_same_answers(store, whole, page_of_collected(store, whole))


def test_the_queries_of_a_partial_page_give_its_numbers_again(store: LocalStore) -> None:
    made = collect(store, [partial_sweep(store)])
    page = page_of_collected(store, made)
    require_same_answers(store, made, page)
    assert "Partial: 2 of 8 trials have no result." in page.text
    assert len(made.missing) == 2
    assert all(f"{trial.trial_id} (784-2-10, IL, seed 1)" in page.text for trial in made.missing)
    lost = page.answer("IN ('failed', 'nonfinite')").rows
    assert [row["trial_id"] for row in lost if row["status"] == "failed"] == sorted(
        trial.trial_id for trial in made.missing
    )
    assert "Partial:" not in page_of_collected(store, replace(made, missing=())).text


def test_every_cell_of_a_heat_map_shows_its_row_of_the_table(
    store: LocalStore, whole: Collected
) -> None:
    rows = whole.rows("divergence")
    page = page_of_collected(store, whole)
    cells = page.answer("WHERE panel IN").rows
    shown = page.tiles()
    assert len(shown) == len(MEASURES) * len(cells)
    for place, (kind, row, text) in enumerate(shown):
        measure = list(MEASURES)[place // len(cells)]
        cell = {k: v for k, v in cells[row].items() if k not in ("cell", "seeds")}
        (same,) = [each for each in rows if {name: each[name] for name in cell} == cell]
        assert cells[row]["seeds"] == [1, 2]
        mean = same[f"{measure}_mean"]
        if mean is None:
            assert (kind, text) == ("nonfinite", "n.f.")
        elif mean == 0:
            assert (kind, text) == (("exact", "0.0") if same["exact"] else ("zero", "0 ≠"))
        else:
            assert kind[0] == "s" and abs(float(text) - mean) <= 0.005 * mean


def test_a_zero_that_is_not_exact_looks_different(store: LocalStore) -> None:
    def tiny_drift(trial: Trial) -> float | None:
        drift = paper_drift(trial)
        return drift and 2.0**-60  # too small for the test error, in whose sum it vanishes

    plan = planned(store, ablation(), "a")
    commit_all(store, plan, tiny_drift)
    kinds = {kind for kind, _, _ in page_of_collected(store, collect(store, [plan])).tiles()}
    assert {"exact", "zero", "nonfinite"} <= kinds


def test_a_missing_cell_looks_different(store: LocalStore) -> None:
    page = page_of_collected(store, collect(store, [partial_sweep(store)]))
    assert ("missing", "-") in {(kind, text) for kind, _, text in page.tiles()}


def test_what_others_wrote_is_harmless(store: LocalStore) -> None:
    page = page_of_collected(store, collect(store, [partial_sweep(store)]))
    (failed,) = page.answer("FROM failures").rows
    assert (failed["traceback"], failed["error"], failed["driver"]) == (NASTY,) * 3
    assert "<script>alert" not in page.text and "<img" not in page.text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page.text
    assert "default-src &#39;none&#39;" not in page.text
    assert "default-src 'none'" in page.text


def test_a_page_refers_to_nothing_outside_it(store: LocalStore, whole: Collected) -> None:
    text = page_of_collected(store, whole).text
    allowed = "http://www.w3.org/2000/svg"  # the name of a language, which is not looked up
    for word in ("http://", "https://", "//cdn", "@import", "url(", " src="):
        assert word not in text.replace(allowed, ""), word


def test_long_curves_are_thinned_and_the_page_says_so(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ablation_page, "_NUMBERS", 1)
    plan = planned(store, ablation(epochs=20), "a")
    commit_all(store, plan)
    made = collect(store, [plan])
    page = page_of_collected(store, made)
    assert "only the epochs 1, 3, 6 and so on" in page.text
    assert {tuple(row["epoch"]) for row in page.answer("points AS").rows} == {
        (1, 3, 6, 9, 12, 15, 18, 20)
    }
    require_same_answers(store, made, page)


def test_a_long_table_is_cut_on_the_page_and_whole_in_its_data(
    store: LocalStore, whole: Collected, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "ROWS", 3)
    page = page_of_collected(store, whole)
    rows = len(whole.rows("divergence"))
    assert f"The first 3 of {rows} rows are shown" in page.text
    assert len(page.answer("weights_by_sd").rows) == rows


def test_the_data_of_a_page_keep_the_sign_of_a_zero() -> None:
    rows = ({"x": 0.0, "y": [0.0], "z": 1}, {"x": -0.0, "y": [-0.0], "z": 1})
    plots = Plots(Answered("SELECT 1", ("x", "y", "z"), rows), "x", (), "y", (), "0.0")
    head = writing.Head("", "", (), "", {}, {})
    page = writing.page_of(head, [Section("", [plots])]).decode()
    assert '"columns":[[0.0,-0.0],[[0.0],[-0.0]],{"all":1}]' in page


def test_the_collector_stores_the_page_and_a_deletion_knows_it(store: LocalStore) -> None:
    plan = planned(store, ablation(), "a")
    commit_all(store, plan)
    assert f"Report: {store.describe(INDEX)}\n" in printed(store, plan)
    assert b"Sweep a" in (store.get(INDEX) or b"")
    assert doomed(store, "a", EXPERIMENTS).foreign == ()


def test_a_page_that_cannot_be_made_costs_no_table(store: LocalStore) -> None:
    plan = planned(store, ablation(), "a")
    commit_all(store, plan)
    broken = replace(ABLATION, sections=lambda ask: [ask("SELECT lost FROM trials")])  # type: ignore[list-item]
    text = printed(store, replace(plan, experiment=broken))
    assert "No report page could be made: InputError: this query cannot be answered" in text
    assert store.get(INDEX) is None
    assert store.get("sweeps/a/tables/divergence.parquet")


def printed(store: LocalStore, plan: Plan) -> str:
    """What the collector prints."""
    out = io.StringIO()
    publish(store, [plan], Console(file=out, width=1000), partial=False)
    return out.getvalue()


def reported(store: LocalStore, *options: str) -> str:
    done = called("--store", store.url, "--sweep", "a", *options, module="jobs.report")
    assert (done.code, done.stderr) == (0, "")
    return done.stdout


def test_the_command_makes_the_page_anew_or_elsewhere(
    store: LocalStore, whole: Collected, tmp_path: Path
) -> None:
    assert reported(store) == f"Report: {store.describe(INDEX)}\n"
    stored = Page((store.get(INDEX) or b"").decode())
    other = tmp_path / "other.html"
    assert reported(store, "--output", str(other)) == f"Report: {other}\n"
    assert Page(other.read_text()).answers == stored.answers
    assert 'data-file="figure3.svg"' in stored.text
    require_same_answers(store, whole, stored)


def test_a_slow_page_never_stays_in_the_place_of_a_newer_one(store: LocalStore) -> None:
    """The rest is committed and collected just before the slow one writes its page."""
    plan = planned(store, ablation(), "a")
    commit(store, plan, plan.shards[0])

    def finish() -> None:
        commit_all(store, plan)
        printed(store, plan)

    slow = Meanwhile(store.root, ("put", INDEX), finish)
    _, page = publish_page(slow, [plan], partial=True)
    assert slow.times == 2
    assert page == store.get(INDEX) and b"Partial:" not in page


@pytest.mark.parametrize(
    ("prepare", "options", "words"),
    [
        (lambda store: None, (), "there is no sweep a"),
        (partial_sweep, (), "2 trials have no result yet"),
        (partial_sweep, ("--partial", "--output", "/no/such/folder/x.html"), "/no/such/folder"),
    ],
)
def test_a_mistake_is_one_line(
    store: LocalStore,
    prepare: Callable[[LocalStore], object],
    options: tuple[str, ...],
    words: str,
) -> None:
    prepare(store)
    line = refusal("--store", store.url, "--sweep", "a", *options, module="jobs.report")
    assert words in line
    assert store.get(INDEX) is None


def test_the_page_is_opened_in_the_browser(store: LocalStore, tmp_path: Path) -> None:
    partial_sweep(store)
    browser, seen = tmp_path / "browser", tmp_path / "seen"
    browser.write_text(f'#!/bin/sh\necho "$1" > {seen}\n')
    browser.chmod(0o755)
    command = ["jobs.report", "--store", store.url, "--sweep", "a", "--partial", "--open"]
    subprocess.run(
        [sys.executable, "-m", *command],
        cwd=ROOT, env=os.environ | {"BROWSER": f"{browser} %s"}, check=True, capture_output=True,
    )  # fmt: skip
    assert seen.read_text() == Path(store.describe(INDEX)).as_uri() + "\n"


def test_a_sweep_without_any_result_has_a_page(store: LocalStore) -> None:
    made = collect(store, [planned(store, ablation(), "a")])
    page = page_of_collected(store, made)
    require_same_answers(store, made, page)
    assert "Partial: 8 of 8 trials have no result." in page.text
    assert {kind for kind, _, _ in page.tiles()} == {"missing"}


def test_two_sweeps_together_have_a_page(store: LocalStore) -> None:
    plans = [planned(store, ablation(seeds=[seed]), f"of-{seed}") for seed in (1, 2)]
    for plan in plans:
        commit_all(store, plan)
    made = collect(store, plans)
    page = page_of_collected(store, made)
    require_same_answers(store, made, page)
    assert "<h1>Sweep of-1 + of-2</h1>" in page.text
    assert all(row["seeds"] == [1, 2] for row in page.answer("WHERE panel IN").rows)


def test_equal_shards_of_two_sweeps_are_estimated_once(store: LocalStore) -> None:
    """Their results are there once, too."""
    for name in "ab":
        commit_all(store, planned(store, ablation(), name))
    alone, both = (collected(store, *names) for names in ("a", "ab"))
    [[one], [two]] = (
        page_of_collected(store, each).answer("estimated_seconds").rows for each in (alone, both)
    )
    assert one == two
    assert one["shards"] == 2 and one["estimated_seconds"] > 0
