"""Text that others wrote. Oracle: what is left of it, written out by hand."""

import pytest

from pcworker.text import as_unicode, counted, in_a_line, printable

TEXTS = {
    "plain äöü 漢字 🙂": "plain äöü 漢字 🙂",
    "two\n\tlines": "two\n\tlines",
    "\x1b[31mred\x1b[0m": "red",
    "\x9b31mred": "red",
    "\x1b]0;title\x07after": "after",
    "\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\": "link",
    "\x1b]0;no end": "0;no end",
    "\x1bPq#0\x1b\\after": "after",
    "\x1bcreset": "reset",
    "\x1b": "",
    "\x1b[": "",
    "over\rwritten\b\b": "overwritten",
    "bell\x07 nul\0 del\x7f": "bell nul del",
    "\u202ereversed\u2069\u200f": "reversed",
    "next\x85line\u2028sep": "nextlinesep",
    "\udcff": "\\udcff",
}


@pytest.mark.parametrize(("text", "left"), TEXTS.items(), ids=map(ascii, TEXTS))
def test_of_a_text_what_moves_no_cursor_is_left(text: str, left: str) -> None:
    assert printable(text) == left


def test_no_escape_is_made_of_the_rest_of_others() -> None:
    """What is left is printable, however sequences are put into one another."""
    for text in ("\x1b\x1b[31m[31m", "\x1b\x1b]0;a\x07]0;b\x07", "\x1b[\x1b[0m0m", "\x1b\x00[31m"):
        assert printable(text).isprintable()


def test_a_line_is_one_line_and_has_an_end() -> None:
    assert in_a_line(" a\n\n b\tc\r\n") == "a b c"
    assert in_a_line(f"seed {'9' * 5000}: no") == f"seed {'9' * 60}...{'9' * 19}: no"
    assert len(in_a_line("word " * 10**6)) < 200_000


def test_half_a_surrogate_pair_is_escaped_and_everything_else_is_kept() -> None:
    assert as_unicode("a\udcffb\ud800") == r"a\udcffb\ud800"
    assert as_unicode("ä\0\x1b🙂") == "ä\0\x1b🙂"


def test_a_count_is_said_with_its_noun() -> None:
    said = [counted(count, "shard") for count in (0, 1, 2, 51_288, 1_000_116)]
    assert said == ["0 shards", "1 shard", "2 shards", "51,288 shards", "1,000,116 shards"]
    assert [counted(x, "GPU") for x in (0.5, 1.0, 8.0)] == ["0.5 GPUs", "1 GPU", "8 GPUs"]
