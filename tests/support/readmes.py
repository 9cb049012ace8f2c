"""The README files as data: their fenced blocks, the commands in these, code spans and links."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("pcworker", "cluster", "jobs", "tests", "infra")
NOT_RUN = "not run by the tests"
"""The words with which a README says so, in the block or in the paragraph before or after it."""
_FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_SEPARATORS = ("&&", "||", "|", ";")


@dataclass(frozen=True)
class Block:
    """A fenced block."""

    readme: str
    """The path from the root."""
    language: str
    text: str
    noted: bool
    """True if the README says, in the block or beside it, that the tests do not run it."""

    def __str__(self) -> str:
        first = self.text.strip().splitlines()[0]
        return f"{self.readme}: {first[:40]}"


def readmes() -> list[str]:
    """The paths of all READMEs from the root of the repository."""
    found = chain.from_iterable((ROOT / name).rglob("README.md") for name in FOLDERS)
    return ["README.md", *sorted(path.relative_to(ROOT).as_posix() for path in found)]


def text_of(readme: str) -> str:
    return (ROOT / readme).read_text()


def blocks(*languages: str) -> list[Block]:
    """The fenced blocks in these languages, or all of them, of all READMEs."""
    every = chain.from_iterable(map(_blocks, readmes()))
    return [block for block in every if not languages or block.language in languages]


def commands(text: str) -> Iterator[list[str]]:
    """The commands of a shell script as lists of words, without comments."""
    for line in text.replace("\\\n", " ").splitlines():
        words: list[str] = []
        for word in shlex.split(line, comments=True):
            if word in _SEPARATORS:
                yield words
                words = []
            else:
                words.append(word)
        if words:
            yield words


def spans(readme: str) -> list[str]:
    """The code spans of a README, outside its fenced blocks, on one line each."""
    prose = _FENCED.sub("", text_of(readme))
    return [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", prose)]


def links(readme: str) -> list[str]:
    """The targets of a README's links and pictures, without those to other sites."""
    targets = re.findall(r"\]\(([^)\s]+)\)", _FENCED.sub("", text_of(readme)))
    return [target for target in targets if "://" not in target]


def anchors(readme: str) -> set[str]:
    """The anchors of a README's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", _FENCED.sub("", text_of(readme)), re.MULTILINE)
    plain = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings)
    return {heading.replace(" ", "-") for heading in plain}


def _blocks(readme: str) -> Iterator[Block]:
    text = text_of(readme)
    for found in _FENCED.finditer(text):
        before = text[: found.start()].rstrip().rpartition("\n\n")[2]
        after = text[found.end() :].lstrip().partition("\n\n")[0]
        noted = any(NOT_RUN in " ".join(part.lower().split()) for part in (before, found[2], after))
        yield Block(readme, found[1], found[2], noted)
