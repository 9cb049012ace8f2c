"""Text for people. What others wrote, such as error messages and host names, is made fit to be kept
and shown, and counts are said with their nouns."""

import re

_SEQUENCE = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"  # a colour, or a movement of the cursor
    r"|(?:\x1b[]PX^_]|[\x90\x98\x9d-\x9f])[^\x07\x1b\x9c\n]*(?:\x07|\x1b\\|\x9c)"  # a title, a link
    r"|\x1b[ -/]*[0-~]?"
)
_CONTROL = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f]"  # all control characters but the tab and the end of a line
    r"|[\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]"  # ends of lines, and turns of direction
)
_LONGEST_WORD, _LONGEST_LINE = 1000, 100_000
"""A longer word or line is cut where a text must be one line."""


def as_unicode(text: str) -> str:
    """The text in characters that every file and every terminal takes.

    A byte that is no UTF-8 reaches Python as half a surrogate pair, which neither Parquet nor a
    terminal takes. It is written as an escape, such as `\\udcff`.
    """
    return text.encode("utf-8", "backslashreplace").decode()


def counted(count: float, noun: str) -> str:
    """The count with its noun, such as "1 shard", "2,000 shards" and "0.5 GPUs". The noun's plural
    must end in s."""
    number = f"{count:,}" if isinstance(count, int) else f"{count:,g}"
    return f"{number} {noun}" if count == 1 else f"{number} {noun}s"


def printable(text: str) -> str:
    """The text without control characters and escape sequences, which could move the cursor, change
    earlier lines or reach the clipboard. Tabs and ends of lines stay."""
    return text if text.isprintable() else _CONTROL.sub("", _SEQUENCE.sub("", as_unicode(text)))


def in_a_line(text: str) -> str:
    """The printable text in one line. Very long words, such as a number of 5,000 digits, are cut,
    so that what follows them is seen."""
    words = printable(text[:_LONGEST_LINE]).split()
    return " ".join(w if len(w) <= _LONGEST_WORD else f"{w[:60]}...{w[-20:]}" for w in words)
