"""A prompt at which a user asks one question after the other, in SQL."""

import re
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
from prompt_toolkit import PromptSession
from prompt_toolkit.auto_suggest import AutoSuggestFromHistory
from prompt_toolkit.completion import WordCompleter
from prompt_toolkit.history import FileHistory, History, InMemoryHistory
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent

from cluster.query.meanings import column_meanings
from cluster.query.session import Session, locked
from cluster.query.shape import shape_of
from pcworker.errors import InputError
from pcworker.text import in_a_line

_WORD_BACKWARDS = re.compile(r"\w*(?:\.$)?")
"""A word as prompt_toolkit looks for it, from its end. A dot belongs to it at the line's start."""
_ALSO = {word: ".quit" for word in (".exit", "exit", "quit")} | {"help": ".help", "?": ".help"}
"""Lines that are no SQL, and what is meant by them."""
HELP = """\
Type a query in SQL, such as  SELECT * FROM trials LIMIT 5  and Enter.
It sees what is committed at that moment.
.tables          the tables
.schema [TABLE]  what their columns mean
.help            this text
.quit            leaves, as Ctrl-D does
Tab completes, the arrows bring back earlier lines, Alt-Enter begins a new line of a query."""


class Conversation:
    """Answers lines, one at a time. A mistake is one line of text, and does not end it."""

    def __init__(
        self, session: Session, show: Callable[[pa.Table], None], say: Callable[[str], None]
    ) -> None:
        """
        show  shows a table
        say   prints text
        """
        self._session, self._show, self._say = session, show, say

    def answers(self, line: str) -> bool:
        """Answers a line, and returns False if it asks to leave."""
        asked = line.strip().rstrip(";").strip()
        asked = _ALSO.get(asked.lower(), asked)
        command, _, argument = asked.partition(" ")
        try:
            if command == ".quit":
                return False
            self._answer(asked, command, argument.strip())
        except InputError as error:
            self._say(f"error: {in_a_line(str(error))}")
        return True

    def _answer(self, asked: str, command: str, argument: str) -> None:
        match command:
            case "":
                pass
            case ".help":
                self._say(HELP)
            case ".tables":
                self._say("\n".join(self._session.names))
            case ".schema":
                self._show(column_meanings(self._session.experiments, argument or None))
            case _ if command.startswith("."):
                raise InputError(f"{command} is no command; .help lists them")
            case _:
                answer = self._session.ask(asked)
                for remark in self._session.remarks:
                    self._say(remark)
                self._show(answer)


def converse(conversation: Conversation, session: Session, folder: Path) -> None:
    """Reads lines from the terminal and has them answered, until the user leaves.

    folder  where the history of lines is kept
    """
    lines: PromptSession[str] = PromptSession(
        "query> ",
        completer=completer(session),
        complete_while_typing=False,
        auto_suggest=AutoSuggestFromHistory(),
        history=_history(folder),
        multiline=True,
        prompt_continuation="   ... ",
        key_bindings=_keys(),
    )
    while True:
        try:
            if not conversation.answers(lines.prompt()):
                return
        except KeyboardInterrupt:  # Ctrl-C gives up a line.
            continue
        except EOFError:
            return


def completer(session: Session) -> WordCompleter:
    """Completes tables, columns, the prompt's own commands and the words of SQL."""
    columns = {name for table in session.names for name in shape_of(table, session.experiments).own}
    found = locked().execute("SELECT upper(keyword_name) FROM duckdb_keywords()")
    keywords = [name for (name,) in found.fetchall()]
    commands = (".tables", ".schema", ".help", ".quit")
    words = [*session.names, *sorted(columns - {*session.names}), *commands, *keywords]
    return WordCompleter(words, ignore_case=True, pattern=_WORD_BACKWARDS)


def _history(folder: Path) -> History:
    """The lines of earlier prompts. They are forgotten if they cannot be kept."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "query-history"
        path.touch()
    except OSError:
        return InMemoryHistory()
    return FileHistory(path)


def _keys() -> KeyBindings:
    """Enter ends a question, and Alt-Enter begins a new line of it."""
    keys = KeyBindings()

    @keys.add("enter")
    def _(event: KeyPressEvent) -> None:
        event.current_buffer.validate_and_handle()

    @keys.add("escape", "enter")
    def _(event: KeyPressEvent) -> None:
        event.current_buffer.insert_text("\n")

    return keys
