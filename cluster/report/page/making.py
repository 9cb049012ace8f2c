"""Makes the report page of what was collected."""

from collections.abc import Mapping
from datetime import UTC, datetime

from cluster.report.page.answers import Answers
from cluster.report.page.general import audit_section, origin_section, state_section
from cluster.report.page.writing import Head, page_of
from cluster.results.collect import Collected, declared_trials
from cluster.sweeps.stored import first_command
from pcworker.machine.provenance import command_line, provenance
from pcworker.store.store import Store

_COMMANDS = ("jobs.collect", "jobs.status")


def report_page(store: Store, collected: Collected, figures: Mapping[str, bytes]) -> bytes:
    """The page, as the bytes of an HTML file.

    figures  the figures by their files' names; the page holds those that are SVG
    """
    ask = Answers(collected.tables, "+".join(plan.name for plan in collected.plans))
    commands = {plan.name: first_command(store, plan.name) for plan in collected.plans}
    sections = [
        *collected.experiment.sections(ask),
        state_section(collected, ask),
        audit_section(collected),
        origin_section(collected, ask, provenance(command_line()), commands),
    ]
    return page_of(_head(store, collected, figures), sections)


def _head(store: Store, collected: Collected, figures: Mapping[str, bytes]) -> Head:
    names = [plan.name for plan in collected.plans]
    options = f"{store.options} --sweep {','.join(names)}"
    now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    count = declared_trials(collected.plans)
    return Head(
        title=f"Sweep {' + '.join(names)}",
        subtitle=(
            f"Experiment {collected.experiment.name}, {count:,} trials, engine "
            f"{collected.plans[0].engine_version}. Made from what was committed at {now}."
        ),
        warnings=tuple(_warnings(collected)),
        query_command=f"python -m jobs.query {store.options} --sweep {'+'.join(names)}",
        command_of={module: f"python -m {module} {options}" for module in _COMMANDS},
        figures={name: data for name, data in figures.items() if name.endswith(".svg")},
    )


def _warnings(collected: Collected) -> list[str]:
    found = []
    if collected.missing:
        found.append(
            f"Partial: {len(collected.missing):,} of {declared_trials(collected.plans):,} trials "
            "have no result. Means are over the seeds that have one."
        )
    if collected.damaged:
        found.append(f"{len(collected.damaged):,} stored objects are damaged and left out.")
    if differing := collected.audit.differing:
        found.append(
            f"{len(differing):,} results differ from what was computed before, or is published. "
            "The section Determinism names them."
        )
    return found
