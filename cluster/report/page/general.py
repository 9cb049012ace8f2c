"""The sections that the pages of all experiments have: the audit, what ran, and what is missing."""

import math
from collections.abc import Iterator, Mapping
from functools import partial

from cluster.report.page.parts import (
    Answered,
    Ask,
    DataTable,
    Fact,
    FactSheet,
    PagePart,
    Paragraph,
    Section,
    Shown,
    Traceback,
    Tracebacks,
)
from cluster.results.audit import Audit
from cluster.results.collect import Collected, declared_trials
from pcworker.machine.provenance import Provenance
from pcworker.store.parquet import schema_of
from pcworker.text import printable

_TRIAL = ("network", "rule", "t", "gamma", "sigma", "seed", "nonfinite_epoch", "hostname")
"""The columns that tell a reader which trial it is, as far as the experiment has them."""
_LOST, _MISSING = 1000, 10
"""How many trials a page lists that have failed or are not finite, and how many without result."""
_COUNTED = "The collector counts these, and they are in no table."
_WRITTEN = "These stand in the sweep's plan and in the metadata of the tables' files."
_TRACEBACKS, _CHARACTERS = 20, 4000
"""How many tracebacks a page shows, and how many characters of each, counted from its end."""


def state_section(collected: Collected, ask: Ask) -> Section:
    """What is done, missing, failed and not finite."""
    table, names = _per_trial(collected)
    status = "jobs.status" if len(collected.plans) == 1 else None
    parts: list[PagePart] = [
        FactSheet(tuple(_completeness(collected)), _COUNTED, status),
        _listing(
            "Trials by status",
            ask(
                f"SELECT status, count(DISTINCT trial_id) AS trials FROM {table} "
                "GROUP BY ALL ORDER BY ALL"
            ),
        ),
    ]
    shown = ", ".join(["status", "trial_id", *(name for name in _TRIAL if name in names)])
    lost = ask(
        f"SELECT DISTINCT {shown} FROM {table} WHERE status IN ('failed', 'nonfinite') "
        f"ORDER BY ALL LIMIT {_LOST}"
    )
    if lost.rows:
        title = f"Trials that have failed, or whose weights did not stay finite (up to {_LOST:,})"
        parts.append(_listing(title, lost))
    failures = ask(f"""
        SELECT time, sweep, shard_id, attempt_id, kind, quarantined, driver, error,
               right(traceback, {_CHARACTERS}) AS traceback
        FROM failures ORDER BY time DESC, attempt_id LIMIT {_TRACEBACKS}
    """)
    if failures.rows:
        parts += [_attempts(failures), _tracebacks(failures)]
    return Section("What is there, and what is not", parts)


def audit_section(collected: Collected) -> Section:
    """The comparisons of what was computed more than once, or is published."""
    audit = collected.audit
    facts = [_compared(*each) for each in _comparisons(audit)]
    facts += [Fact("Difference", printable(line), is_bad=True) for line in audit.differing]
    return Section(
        "Determinism",
        [
            Paragraph(
                "The same trial must give the same bits whenever and wherever it is computed. The "
                "collector compared everything that was computed more than once:"
            ),
            FactSheet(tuple(facts), _COUNTED, "jobs.collect"),
        ],
    )


def origin_section(
    collected: Collected, ask: Ask, made_by: Provenance, commands: Mapping[str, str | None]
) -> Section:
    """What made the numbers: sources, libraries, commands, machines and time.

    commands  the command that first submitted each sweep; None where the plan does not say it
    """
    table, names = _per_trial(collected)
    code = ", ".join(n for n in ("engine_version", "git_commit", "torch_version") if n in names)
    parts: list[PagePart] = [
        FactSheet(tuple(_sources(collected, made_by, commands)), _WRITTEN),
        _listing(
            "Code that trained",
            ask(
                f"SELECT {code}, count(DISTINCT trial_id) AS trials FROM {table} "
                "WHERE status <> 'failed' GROUP BY ALL ORDER BY ALL"
            ),
        ),
    ]
    if "device" in names:
        parts.append(
            _listing(
                "Hardware",
                ask(
                    "SELECT hostname, device, count(DISTINCT attempt_id) AS shards, "
                    f"count(DISTINCT trial_id) AS trials FROM {table} "
                    "WHERE status <> 'failed' GROUP BY ALL ORDER BY ALL"
                ),
            )
        )
    if "wall_seconds" in names:
        parts.append(_listing("Estimated and measured time", ask(_times(collected, ask))))
    return Section("Where the numbers come from", parts)


def _per_trial(collected: Collected) -> tuple[str, list[str]]:
    """The table with the trials, and its columns."""
    tables = collected.experiment.tables
    return tables.per_trial, schema_of(tables.row_types[tables.per_trial]).names


def _listing(title: str, answer: Answered) -> DataTable:
    """All columns of an answer under their own names."""
    return DataTable(
        title, answer, tuple(Shown(name.replace("_", " "), name) for name in answer.columns)
    )


def _completeness(collected: Collected) -> Iterator[Fact]:
    declared, missing = declared_trials(collected.plans), len(collected.missing)
    yield Fact("Trials declared", f"{declared:,}")
    note = f", {collected.failed:,} of them because their shard failed" if collected.failed else ""
    yield Fact("Trials without a result", f"{missing:,}{note}", is_bad=missing > 0)
    if missing:
        first = (
            f"{trial.trial_id} ({trial.configuration.network}, {trial.configuration.rule}, seed "
            f"{trial.seed})"
            for trial in collected.missing[:_MISSING]
        )
        yield Fact("The first of these", ", ".join(first))
    for line in collected.damaged:
        yield Fact("Damaged", printable(line), is_bad=True)
    if collected.not_invariant:
        yield Fact(
            "Trials that do not repeat themselves", str(collected.not_invariant), is_bad=True
        )


def _comparisons(audit: Audit) -> Iterator[tuple[str, int, int]]:
    """Yields what was compared, how often, and how many differed."""
    yield "Copies of BP twins, trained in several shards", audit.copies, len(audit.differing_copies)
    yield "Shards that were trained again", audit.attempts, len(audit.differing_attempts)
    yield "Trials of several sweeps", audit.duplicates, len(audit.differing_duplicates)
    published = audit.published
    yield "Trials whose bits are published", published.compared, len(published.differing)


def _compared(what: str, compared: int, differing: int) -> Fact:
    if not compared:
        return Fact(what, "none to compare")
    verdict = f"{differing:,} differ" if differing else "all bit-identical"
    return Fact(what, f"{compared:,} compared, {verdict}", is_bad=differing > 0)


def _sources(
    collected: Collected, made_by: Provenance, commands: Mapping[str, str | None]
) -> Iterator[Fact]:
    for sweep, command in commands.items():
        yield Fact(f"Command of {sweep}", printable(command) if command else "not recorded")
    trained = collected.tables.metadata["trained_code_sha256"].replace(",", ", ")
    yield Fact("Sources that trained (sha256)", trained or "nothing is trained yet")
    yield Fact("Sources that made this page (sha256)", made_by.code_sha256)
    if made_by.git_commit:
        changed = ", with changes" if made_by.git_dirty else ""
        yield Fact("Their commit", made_by.git_commit + changed)
    libraries = (f"{name} {version}" for name, version in made_by.versions.items())
    yield Fact("Libraries that made this page", ", ".join(libraries))


def _times(collected: Collected, ask: Ask) -> str:
    """A query of the seconds of the shards that are done, beside what the plans estimated."""
    table, _ = _per_trial(collected)
    # Two sweeps may have equal shards. Rows of both are there, or those of one: an attempt tells.
    each = f"SELECT DISTINCT shard_id, attempt_id, wall_seconds FROM {table}"
    each += " WHERE wall_seconds IS NOT NULL"
    estimated = {shard: s for plan in collected.plans for shard, s in plan.seconds.items()}
    seconds = math.fsum(estimated[row["shard_id"]] for row in ask(each).rows)
    return f"""
        SELECT count(*) AS shards, {seconds:.1f}::DOUBLE AS estimated_seconds,
               round(sum(wall_seconds), 1) AS measured_seconds,
               round(sum(wall_seconds) / {max(seconds, 0.001):.3f}, 2) AS measured_to_estimated
        FROM ({each})
    """


def _attempts(failures: Answered) -> DataTable:
    names = [name for name in failures.columns if name != "traceback"]
    columns = tuple(Shown(name.replace("_", " "), name) for name in names)
    return DataTable(f"Failed attempts, the last {_TRACEBACKS}", failures, columns)


def _tracebacks(failures: Answered) -> Tracebacks:
    line = partial("{time}, shard {shard_id}: {error}".format_map)
    each = (Traceback(printable(line(row)), printable(row["traceback"])) for row in failures.rows)
    return Tracebacks(tuple(each))
