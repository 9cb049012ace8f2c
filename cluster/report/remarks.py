"""Prints remarks that results of every experiment may need: the audit, and what is missing."""

from collections.abc import Sequence

from rich.console import Console

from cluster.results.audit import Audit
from cluster.results.collect import Collected


def print_remarks(console: Console, collected: Collected) -> None:
    """Prints the audit, and how many trials ran alone, did not repeat themselves, are missing or
    are damaged."""
    if remark := _audit_remark(collected.audit):
        console.print(remark)
    if (published := collected.audit.published).compared:
        same = published.compared - len(published.differing)
        console.print(f"{same} of {published.compared} trials have the published bits.")
    for line in collected.audit.differing:
        console.print(line, style="red", soft_wrap=True)
    if collected.audit.differing:
        console.print(
            "What was computed more than once is not the same each time, or is not what was "
            "published: the exit code is 1.",
            style="red",
            soft_wrap=True,
        )
    if collected.alone and collected.experiment.exact:
        console.print(
            f"{collected.alone} trials ran one by one: in a stack their bits might change."
        )
    if collected.not_invariant:
        console.print(
            f"{collected.not_invariant} trials do not repeat themselves bit for bit on the "
            "machine that ran them (packing_invariant is false in their rows).",
            style="red",
        )
    if collected.missing:
        failed = collected.failed
        note = f", {failed} of them because their shard failed" if failed else ""
        console.print(f"{len(collected.missing)} trials are missing{note}.", style="yellow")
    for line in collected.damaged:
        console.print(line, style="red", soft_wrap=True)


def _audit_remark(audit: Audit) -> str:
    parts = []
    if audit.copies:
        verdict = _verdict(audit.differing_copies)
        parts.append(f"{audit.copies} copies of BP twins compared, {verdict}")
    if audit.attempts:
        verdict = _verdict(audit.differing_attempts)
        parts.append(f"{audit.attempts} repeated attempts of {audit.shards} shards, {verdict}")
    if audit.duplicates:
        verdict = _verdict(audit.differing_duplicates)
        parts.append(f"{audit.duplicates} trials of several sweeps compared, {verdict}")
    return f"Determinism audit: {'; '.join(parts)}." if parts else ""


def _verdict(differing: Sequence[str]) -> str:
    return f"{len(differing)} differ" if differing else "all bit-identical"
