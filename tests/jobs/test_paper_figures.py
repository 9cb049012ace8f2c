"""Tests of the figures for papers, by what `jobs.figure` writes and by the texts that are drawn."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import matplotlib
import matplotlib.image
import numpy as np
import pyarrow.parquet as pq
import pytest
from builders import ablation, commit, commit_all, flipped, planned
from command_lines import Ended, called, files, refusal
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

from cluster.report.drawing import FOR_PAPERS, DrawPanel
from cluster.results.collect import collect, write_tables
from jobs.detection_rate.experiment import DETECTION
from jobs.imagenet_timing.shown.figure import timing_panels
from jobs.mnist_ablation.drawn.paper import ablation_panels
from pcworker.store.local import LocalStore
from pcworker.trials.trial import Trial

PANELS = ("t-gamma-error", "sigma-error", "t-gamma-weights", "sigma-weights")
PAPER = {
    "networks": ["784-4-10", "784-4-4-10", "784-4-4-4-10"],
    "seeds": [1, 2],
    "t": [None, 0, 1, 2, 3, 4, 16, 64],
    "gamma": [0.01, 0.1, 0.5, 1.0, 5.0, 10.0],
    "sigma": [0.0, 0.0001, 0.001, 0.01, 0.1, 1.0, 10.0, 100.0],
}
"""The axes of the paper's sweep."""


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "store")


def draw(store: LocalStore, *options: str) -> Ended:
    return called("--store", store.url, "--sweep", "a", *options, module="jobs.figure")


@pytest.mark.parametrize("kind", ["pdf", "svg", "png"])
def test_every_panel_is_a_file_of_its_own_and_the_same_each_time(
    store: LocalStore, tmp_path: Path, kind: str
) -> None:
    commit_all(store, planned(store, ablation(), "a"))
    before = {path: path.read_bytes() for path in files(store.root)}
    folders = tmp_path / "one", tmp_path / "two"
    for folder in folders:
        done = draw(store, "--format", kind, "--width", "84mm", "--output", str(folder))
        assert (done.code, done.stderr) == (0, "")
        assert sorted(path.name for path in folder.iterdir()) == sorted(
            f"a-{panel}.{kind}" for panel in PANELS
        )
    for path in folders[0].iterdir():
        assert path.read_bytes() == (folders[1] / path.name).read_bytes()
    assert {path: path.read_bytes() for path in files(store.root)} == before


def test_a_pdf_has_its_width_its_fonts_and_no_date(store: LocalStore, tmp_path: Path) -> None:
    commit_all(store, planned(store, ablation(), "a"))
    for width, points in (("3.3in", 237.6), ("14cm", 396.85), ("397.485pt", 396.0)):
        path = tmp_path / "figure.pdf"
        options = ("--panel", "sigma-error", "--width", width, "--output", str(path))
        assert draw(store, *options).code == 0
        data = path.read_bytes()
        found = re.search(rb"/MediaBox \[ 0 0 ([0-9.]+) ", data)
        assert found is not None and float(found[1]) == pytest.approx(points, abs=0.01)
        assert data.count(b"/FontFile2") >= 1 and b"/Type3" not in data
        assert b"Date" not in data and b"/Subtype /Image" not in data


def test_an_svg_needs_no_font_and_a_png_has_600_dots_per_inch(
    store: LocalStore, tmp_path: Path
) -> None:
    commit_all(store, planned(store, ablation(), "a"))
    one = ("--panel", "sigma-error", "--width", "4in", "--output")
    assert draw(store, *one, str(tmp_path / "a.svg"), "--format", "svg").code == 0
    text = (tmp_path / "a.svg").read_text()
    assert "<text" not in text and "<dc:date>" not in text and 'width="288pt"' in text
    assert draw(store, *one, str(tmp_path / "a.png"), "--format", "png").code == 0
    assert matplotlib.image.imread(tmp_path / "a.png").shape[1] == 2400


def test_an_unknown_panel_lists_the_known_ones(store: LocalStore, tmp_path: Path) -> None:
    commit_all(store, planned(store, ablation(), "a"))
    at = ("--store", store.url, "--sweep", "a")
    line = refusal(*at, "--panel", "figure4", module="jobs.figure")
    assert all(panel in line for panel in PANELS)
    for width in ("5.5", "1in", "inf in", "-5in", "1e9in"):
        assert "is not a width from 2.5in to 20in" in refusal(
            *at, "--width", width, module="jobs.figure"
        )
    under = tmp_path / "file"
    under.write_text("")
    line = refusal(*at, "--output", str(under / "x"), module="jobs.figure")
    assert "name another --output" in line
    planned(store, ablation(rules=["BP", "Fa-Z-IL"]), "b")
    line = refusal("--store", store.url, "--sweep", "b", module="jobs.figure")
    assert "no cells of a figure" in line


def test_nothing_is_drawn_of_a_damaged_table(store: LocalStore, tmp_path: Path) -> None:
    plan = planned(store, ablation(), "a")
    commit_all(store, plan)
    write_tables(store, collect(store, [plan]))
    path = store.root / plan.keys.table("divergence")
    data = path.read_bytes()
    first = pq.read_metadata(path).row_group(0).column(0)
    path.write_bytes(flipped(data, first.data_page_offset + first.total_compressed_size // 2))
    at = ("--store", store.url, "--sweep", "a", "--output", str(tmp_path))
    assert "python -m jobs.collect makes it anew" in refusal(*at, module="jobs.figure")


def test_a_sweep_that_runs_is_drawn_and_what_is_missing_is_said(
    store: LocalStore, tmp_path: Path
) -> None:
    plan = planned(store, ablation(), "a")
    commit(store, plan, plan.shards[0])
    done = draw(store, "--output", str(tmp_path / "figures"))
    assert done.code == 0
    missing = sum(len(shard.trials) for shard in plan.shards[1:])
    assert f"{missing} of 8 trials have no result" in done.stderr


def test_an_experiment_without_figures_says_so() -> None:
    assert DETECTION.panels is None


def ablations(store: LocalStore) -> Mapping[str, DrawPanel]:
    plan = planned(store, ablation(**PAPER), "paper")
    for shard in plan.shards[:-1]:  # Some cells miss a seed, so all kinds of cells are there.
        commit(store, plan, shard, drift_of_many_digits)
    return ablation_panels(collect(store, [plan]).rows("divergence"))


def drift_of_many_digits(trial: Trial) -> float | None:
    config = trial.configuration
    if config.gamma == 10 and config.t == 64:
        return None
    if config.rule == "Z-IL" and config.gamma == 1 and not config.sigma:
        return 0.0
    return 0.0123 * (config.gamma or 1) ** 9


def timings() -> Mapping[str, DrawPanel]:
    """Made-up times of three networks by seven methods."""
    methods: list[dict[str, Any]] = [
        {"rule": "BP", "t": None, "schedule": None},
        *({"rule": "IL", "t": t, "schedule": "literal"} for t in (10, 20, 40)),
        *({"rule": "Z-IL", "t": None, "schedule": s} for s in ("layerwise", "literal")),
        {"rule": "Fa-Z-IL", "t": None, "schedule": "literal"},
    ]
    return timing_panels(
        [
            {
                "sweep": "a", "shard_id": network, "network": network, "layers": 3 + place,
                "seed": 1, "status": "done", "device_kind": "cpu", "device": "cpu",
                "execution": "plain", "arithmetic": "displacement", "parameters": 10,
                "batch_size": 1, "data": "synthetic", "updates": 1, "warmup": 0, "hostname": "h",
                "torch_version": "0", "ratio_to_bp_median": 1.0 + 3.21 * k,
                "ratio_to_bp_p10": 1.0 + 3 * k, "ratio_to_bp_p90": 1.0 + 3.5 * k, **method,
            }
            for place, network in enumerate(("mlp", "small-conv", "alexnet"))
            for k, method in enumerate(methods)
        ]
    )  # fmt: skip


def texts(figure: Figure) -> Iterator[Text]:
    """All texts that are drawn. A label of a tick beyond the end of its axis is not."""
    beyond = [
        label
        for axis in figure.axes
        for one, (low, high) in ((axis.xaxis, axis.get_xlim()), (axis.yaxis, axis.get_ylim()))
        for ticks in (one.get_major_ticks(), one.get_minor_ticks())
        for tick in ticks
        if not min(low, high) <= tick.get_loc() <= max(low, high)
        for label in (tick.label1, tick.label2)
    ]
    every = figure.findobj(Text)
    return (t for t in every if t.get_visible() and t.get_text().strip() and t not in beyond)


@pytest.mark.parametrize("width", [3.3, 5.5])
@pytest.mark.parametrize("kind", ["ablation", "timing"])
def test_all_letters_can_be_read_and_none_is_cut_off(
    store: LocalStore, kind: str, width: float
) -> None:
    panels = timings() if kind == "timing" else ablations(store)
    assert len(panels) == (3 if kind == "timing" else 4)
    for name, draws in panels.items():
        with matplotlib.rc_context(FOR_PAPERS):
            figure = draws(width)
            FigureCanvasAgg(figure).draw()
        assert figure.get_figwidth() == width
        for text in texts(figure):
            assert 7 <= text.get_fontsize() <= 9, (name, text)
            box = text.get_window_extent()
            assert box.x0 >= -1 and box.y0 >= -1, (name, text)
            assert box.x1 <= figure.bbox.x1 + 1 and box.y1 <= figure.bbox.y1 + 1, (name, text)
        for axis in figure.axes:
            require_apart([text for text in axis.texts if text.get_text()])


def require_apart(numbers: list[Text]) -> None:
    """No number may cover another one."""
    boxes = [text.get_window_extent() for text in numbers]
    corners = np.array([(box.x0, box.y0, box.x1, box.y1) for box in boxes]).reshape(-1, 4)
    for k, (x0, y0, x1, y1) in enumerate(corners):
        others = np.delete(corners, k, axis=0)
        over = (others[:, 0] < x1) & (others[:, 2] > x0) & (others[:, 1] < y1) & (others[:, 3] > y0)
        assert not over.any(), (numbers[k], [n for n, o in zip(numbers, over, strict=False) if o])
