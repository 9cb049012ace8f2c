"""Reads a report page: its answers, what it shows of them, and whether they can be asked again."""

import json
import math
import re
import shlex
from dataclasses import dataclass
from html import unescape
from typing import Any

from cluster.query.session import Session
from cluster.query.views import Asked
from cluster.report.page.making import report_page
from cluster.results.collect import Collected
from pcworker.store.store import Store


@dataclass(frozen=True)
class Held:
    """An answer that a page holds."""

    sql: str
    rows: list[dict[str, Any]]


@dataclass(frozen=True)
class Page:
    """A page, as text."""

    text: str

    @property
    def answers(self) -> list[Held]:
        """The answers, decoded as the page's script decodes them."""
        (found,) = re.findall(
            r'<script type="application/json" id="answers">(.*?)</script>', self.text, re.DOTALL
        )
        return [_held(each) for each in json.loads(found)]

    def answer(self, word: str) -> Held:
        """The only answer whose query has this word."""
        (found,) = [each for each in self.answers if word in each.sql]
        return found

    def tiles(self) -> list[tuple[str, int, str]]:
        """The class, the row and the text of each cell of the heat maps."""
        pattern = r'<td class="tile (\w+)"><button type="button" data-row="(\d+)">(.*?)</button>'
        found = re.findall(pattern, self.text)
        return [(kind, int(row), unescape(text)) for kind, row, text in found]


def page_of_collected(store: Store, made: Collected) -> Page:
    """The page of what was collected, without figures."""
    return Page(report_page(store, made, {}).decode())


def require_same_answers(store: Store, made: Collected, page: Page) -> None:
    """Runs every query of a page again, on the store, and compares all values."""
    asking = Session(store, [Asked(made.plans)])
    shown = re.findall(r'<code class="sql">(.*?)</code>', page.text, re.DOTALL)
    typed = re.findall(r'<code class="command">(.*?)</code>', page.text, re.DOTALL)
    names = "+".join(plan.name for plan in made.plans)
    command = ["python", "-m", "jobs.query", *shlex.split(store.options), "--sweep", names]
    assert [shlex.split(unescape(each)) for each in typed] == [
        [*command, unescape(sql)] for sql in shown
    ]
    assert {held.sql for held in page.answers} == set(map(unescape, shown)) != set()
    for held in page.answers:
        assert held.rows == asking.ask(held.sql).to_pylist(), held.sql


def _held(packed: dict[str, Any]) -> Held:
    columns = [
        [each["all"]] * packed["n"] if isinstance(each, dict) else each
        for each in packed["columns"]
    ]
    rows = zip(*columns, strict=True) if columns else []
    return Held(
        packed["sql"],
        [dict(zip(packed["names"], map(_finite_or_not, row), strict=True)) for row in rows],
    )


def _finite_or_not(value: Any) -> Any:
    if isinstance(value, list):
        return [_finite_or_not(each) for each in value]
    return math.inf if value == "inf" else value
