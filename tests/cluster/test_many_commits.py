"""The numbers of the collector over many commits, which `cluster/README.md` states."""

import pytest
from collecting import Measured, in_a_bucket, in_a_directory
from many_commits import TRIALS

MOST_MIB = 2048


def check(first: Measured, again: Measured, more: Measured, commits: int) -> None:
    """Checks what does not depend on the machine."""
    for each in (first, again, more):
        assert each.exact
        assert each.mib < MOST_MIB
    assert (first.trials, again.trials) == ((commits - 10) * TRIALS, (commits - 10) * TRIALS)
    assert more.trials == commits * TRIALS
    # Each commit has four objects. The others are those of compactions, four each.
    assert first.calls["get"] == 4 * (commits - 10)
    compactions = first.calls["put_if_absent"]
    assert again.calls["get"] == 5 * compactions
    assert more.calls["get"] == 5 * compactions + 40


@pytest.mark.long
def test_a_million_trials_are_collected_in_less_than_2_gib() -> None:
    with in_a_directory(100_000, None) as measured:
        check(*measured, commits=100_000)


@pytest.mark.long
def test_commits_in_a_bucket_are_collected_with_few_requests() -> None:
    with in_a_bucket(2_000) as measured:
        check(*measured, commits=2_000)


def test_a_second_collector_reads_compactions_and_what_is_new() -> None:
    with in_a_directory(70, None) as measured:
        check(*measured, commits=70)
