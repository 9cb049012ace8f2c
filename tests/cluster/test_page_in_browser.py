"""Tests of the report page in a real headless Chromium, opened from a file.

Oracle: the Parquet files of the collected tables, read by pyarrow. They need the extra `browser`,
and a Chromium: that of the system, or the one that `playwright install chromium` fetches.
"""

import csv
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from builders import ablation, commit_all, paper_drift, planned
from command_lines import called

from cluster.report.terminal import number
from jobs.mnist_ablation.panels import MEASURES
from pcworker.store.local import LocalStore
from pcworker.trials.trial import Trial

playwright = pytest.importorskip(
    "playwright.sync_api", reason="the extra `browser` is not installed"
)
axe = pytest.importorskip(
    "axe_playwright_python.sync_playwright", reason="the extra `browser` is not installed"
)

pytestmark = [pytest.mark.long]

LOOKS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "light": ({"viewport": {"width": 1200, "height": 900}}, {}),
    "dark": ({"viewport": {"width": 1200, "height": 900}}, {"color_scheme": "dark"}),
    "print": ({"viewport": {"width": 794, "height": 1123}}, {"media": "print"}),
    "narrow": ({"viewport": {"width": 390, "height": 844}}, {}),
}
NETWORKS = ["784-2-10", "784-2-2-10"]
SEEDS = [1, 2]


def drift_of(trial: Trial) -> float | None:
    """Like `paper_drift`, but every trial that drifts does so by another amount."""
    drift, config = paper_drift(trial), trial.configuration
    return drift and drift * (1 + 1 / 4 * trial.seed + 1 / 64 * config.hidden_layers)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a sweep that was collected."""
    store = LocalStore(tmp_path_factory.mktemp("page"))
    plan = planned(store, ablation(networks=NETWORKS, seeds=SEEDS, epochs=3), "a")
    commit_all(store, plan, drift_of)
    done = called("--store", store.url, "--sweep", "a", module="jobs.collect")
    assert done.code == 0, done.stderr
    return Path(store.url) / "sweeps" / "a"


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """The browser, which all tests share. Each test has a context of its own."""
    names = ("chromium", "chromium-browser", "google-chrome")
    found = next(filter(None, map(shutil.which, names)), None)
    with playwright.sync_playwright() as started:
        if not found and not Path(started.chromium.executable_path).is_file():
            pytest.skip(
                "there is no Chromium: apt install chromium, or playwright install chromium"
            )
        browser = started.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield browser
        browser.close()


class Seen:
    """The page as it is shown, and all that it asked for or complained about."""

    def __init__(self, chromium: Any, folder: Path, look: str = "light") -> None:
        context, media = LOOKS[look]
        self.page = chromium.new_context(**context).new_page()
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.emulate_media(**media)
        self.url = (folder / "report" / "index.html").as_uri()
        self.page.goto(self.url)

    def close(self) -> None:
        """Ends the context, after a last look at what the page asked for."""
        assert self.complaints == []
        assert self.requests == [self.url]
        self.page.context.close()


@pytest.mark.parametrize("look", LOOKS)
def test_it_is_whole_and_accessible(chromium: Any, folder: Path, look: str) -> None:
    seen = Seen(chromium, folder, look)
    inner, outer = seen.page.evaluate(
        "[document.documentElement.scrollWidth, document.documentElement.clientWidth]"
    )
    assert inner <= outer
    found = axe.Axe().run(seen.page).response["violations"]
    serious = [each for each in found if each["impact"] in ("serious", "critical")]
    assert [(each["id"], [n["html"][:90] for n in each["nodes"]][:3]) for each in serious] == []
    seen.close()


TILES = """
[...document.querySelectorAll('.maps')].map((maps) =>
  [...maps.querySelectorAll('.heat')].map((table) => ({
    title: table.caption.textContent,
    cells: [...table.tBodies[0].rows].flatMap((row) => [...row.cells].slice(1).map((cell, x) => ({
      row: row.cells[0].textContent, column: table.tHead.rows[0].cells[x + 1].textContent,
      text: cell.textContent, kind: cell.className,
    }))),
  })))
"""


def test_every_cell_of_the_heat_maps_is_the_tables(chromium: Any, folder: Path) -> None:
    seen = Seen(chromium, folder)
    rows = pq.read_table(folder / "tables" / "divergence.parquet").to_pylist()
    compared = 0
    for measure, maps in zip(MEASURES, seen.page.evaluate(TILES), strict=True):
        for heat in maps:
            for cell in heat["cells"]:
                (row,) = [each for each in rows if is_at(each, heat["title"], cell)]
                assert cell["text"] == expected(row, measure), cell
                assert ("exact" in cell["kind"]) == (row["exact"] and cell["text"] == "0.0")
                compared += 1
    assert compared == len(MEASURES) * sum(row["panel"] != "rule" for row in rows)
    seen.close()


def is_at(row: dict[str, Any], title: str, cell: dict[str, str]) -> bool:
    """True if the row of `divergence` belongs into this cell of the map with this title."""
    if title.startswith("C1"):
        place = (f"{row['sigma']:g}" if row["panel"] == "sigma" else None, row["network"])
        return place == (cell["row"], cell["column"])
    t = "l" if row["t"] is None else str(row["t"])
    place = (t, f"{row['gamma']:g}" if row["gamma"] is not None else None)
    here = row["panel"] == "t-gamma" and row["network"] == title
    return here and place == (cell["row"], cell["column"])


def expected(row: dict[str, Any], measure: str) -> str:
    mean = row[f"{measure}_mean"]
    if mean is None:
        return "n.f."
    star = "*" if row["n_nonfinite"] else ""
    zero = "0.0" if row["exact"] else "0 ≠"
    return (zero if mean == 0 else number(mean)) + star


def test_a_cell_tells_all_of_its_numbers_to_the_keyboard_too(chromium: Any, folder: Path) -> None:
    seen = Seen(chromium, folder)
    rows = pq.read_table(folder / "tables" / "divergence.parquet").to_pylist()
    (row,) = [
        each
        for each in rows
        if (each["panel"], each["network"], each["t"], each["gamma"])
        == ("t-gamma", "784-2-10", 16, 1.0)
    ]
    first = seen.page.locator(".maps").nth(1).locator("button").first  # t = 0, gamma = 1
    first.focus()
    assert seen.page.locator("#tip").is_visible()
    for key in ("ArrowDown", "ArrowDown"):
        seen.page.keyboard.press(key)
    names, values = (seen.page.locator(f"#tip {e}").all_inner_texts() for e in ("dt", "dd"))
    told = dict(zip(names, values, strict=True))
    assert names[:2] == ["mean", "standard deviation"]
    assert float(told["mean"]) == row["weight_divergence_l2_mean"]
    assert float(told["standard deviation"]) == row["weight_divergence_l2_sd"]
    assert (told["seeds"], told["seeds with a result"], told["BP, bit for bit"]) == (
        "1, 2",
        "2",
        "no",
    )
    seen.page.keyboard.press("Escape")
    assert not seen.page.locator("#tip").is_visible()
    seen.page.keyboard.press("Enter")
    assert seen.page.locator(".chosen").inner_text() == (
        "network 784-2-10, rule IL, t 16, gamma 1, sigma 0"
    )
    assert seen.page.locator(".maps").nth(0).locator("[aria-pressed=true]").count() == 1
    seen.close()


def test_the_curves_have_the_points_of_the_table(chromium: Any, folder: Path) -> None:
    seen = Seen(chromium, folder)
    seen.page.locator(".maps").first.locator("button").first.click()  # t = 0, gamma = 1
    trials = pq.read_table(folder / "tables" / "trials.parquet").to_pylist()
    mine = {
        row["trial_id"]: row["seed"]
        for row in trials
        if (row["network"], row["rule"], row["t"]) == ("784-2-10", "IL", 0)
    }
    assert sorted(mine.values()) == SEEDS
    epochs = pq.read_table(folder / "tables" / "epochs.parquet").to_pylist()
    seen.page.get_by_text("The points as a table").click()
    lines = seen.page.evaluate(
        "[...document.querySelectorAll('.points tbody tr')]"
        ".map((row) => [...row.cells].map((cell) => Number(cell.textContent)))"
    )
    assert [line[0] for line in lines] == [1, 2, 3]
    for epoch, error, low, high, twin, distance in lines:
        rows = [row for row in epochs if row["trial_id"] in mine and row["epoch"] == epoch]
        errors = [row["test_error"] for row in rows]
        assert (low, high) == (round(min(errors), 5), round(max(errors), 5))
        assert error == round(sum(errors) / 2, 5)
        assert twin == round(rows[0]["twin_test_error"], 5)
        assert distance == float(f"{sum(row['weight_l2_to_twin'] for row in rows) / 2:.4g}")
    assert seen.page.locator(".drawn svg path.line0").count() == 2
    seen.close()


def test_a_table_is_sorted_and_downloaded(chromium: Any, folder: Path, tmp_path: Path) -> None:
    seen = Seen(chromium, folder)
    rows = pq.read_table(folder / "tables" / "divergence.parquet").to_pylist()
    table = seen.page.locator("table.listing", has_text="weights: mean (L2)")
    head = table.get_by_role("button", name="weights: mean (L2)")
    for order in ("ascending", "descending"):
        head.click()
        assert table.locator(f"th[aria-sort={order}]").count() == 1
        place = table.locator("th").all_inner_texts().index("weights: mean (L2)")
        shown = table.locator(f"tbody td:nth-child({place + 1})").all_inner_texts()
        values = [float(text) for text in shown if text]
        assert values == sorted(values, reverse=order == "descending") and len(set(values)) > 2
        assert "" not in shown[: len(values)]  # what is not finite comes last
    seen.page.get_by_label("Show rows with").fill("784-2-2-10 z-il")
    assert table.locator("tbody tr:visible").count() == sum(
        (row["network"], row["rule"]) == ("784-2-2-10", "Z-IL") for row in rows
    )
    query = seen.page.locator("details.query", has_text="weights_by_sd")
    query.locator("summary").click()
    with seen.page.expect_download() as download:
        query.get_by_role("button", name="CSV").click()
    download.value.save_as(tmp_path / "cells.csv")
    with (tmp_path / "cells.csv").open(newline="") as file:
        saved = list(csv.DictReader(file))
    means = [row["weight_divergence_l2_mean"] for row in rows]
    assert sorted(float(row["weights_mean"]) for row in saved if row["weights_mean"]) == sorted(
        mean for mean in means if mean is not None
    )
    assert len(saved) == len(rows)
    seen.requests = [url for url in seen.requests if not url.startswith("blob:")]
    seen.close()


def test_the_figure_is_downloaded_as_it_lies_beside_the_page(
    chromium: Any, folder: Path, tmp_path: Path
) -> None:
    seen = Seen(chromium, folder)
    with seen.page.expect_download() as download:
        seen.page.get_by_role("button", name="Download figure3.svg").click()
    download.value.save_as(tmp_path / "saved.svg")
    assert (tmp_path / "saved.svg").read_bytes() == (folder / "report/figure3.svg").read_bytes()
    seen.requests = [url for url in seen.requests if not url.startswith("blob:")]
    seen.close()
