"""A strict subset of YAML → a tree whose nodes remember where they stand.

Rules:
1. Maps, lists and text, nothing else: `on`, `12:30:45`, `010`, `.nan` and `null` are text here; whoever knows what
   a field means reads it.
2. Refused, each with its place: duplicate keys, anchors, aliases, merges, tags, directives, several documents,
   keys that are not text, control characters, anything but UTF-8.
3. Size, depth and the number of values are capped; within the caps every input gives a tree or flaws, quickly.
4. Lines and columns start at 1; columns count characters. What was refused stays in the tree as `Broken`, so that
   the rest of the file can still be judged.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from itertools import islice
from typing import Any, NamedTuple, NoReturn, TypeAlias, TypeGuard

import yaml

EMPTY = "the file is empty"
MAX_BYTES = 1024 * 1024
MAX_DEPTH = 32
MAX_VALUES = 50_000
MAX_FORBIDDEN = 20
"""Characters that are not allowed are told one by one up to this many."""

# Besides control characters: other line breaks, and marks that make text look different from what it is.
_FORBIDDEN = re.compile(
    "[^\t\n\r\x20-\x7e\xa0-\u2027\u202f-\u2065\u206a-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]"
)
_MERGE_KEY = "<<"
_PLAIN_WORDS = {
    "mapping values are not allowed in this context": "a ':' stands where no key can be; quote text that holds ': '",
    "could not find expected ':'": "a key without its ':'; indent what belongs to the line before",
    "did not find expected key": "the indentation fits neither the line before nor an outer one, or text is unquoted",
    "did not find expected ',' or ']'": "a '[' is never closed, or a ',' is missing",
    "did not find expected ',' or '}'": "a '{' is never closed, or a ',' is missing",
    "did not find expected node content": "a value is missing",
    "did not find expected '-' indicator": "a list item must begin with '- ' in the column of its neighbours",
}


class Text(NamedTuple):
    """A scalar, as written."""

    text: str
    line: int
    column: int


class Entry(NamedTuple):
    """One line of a map."""

    key: Text
    value: Node


class Map(NamedTuple):
    """A map in the order of the file."""

    entries: dict[str, Entry]
    line: int
    column: int


class List(NamedTuple):
    """A list."""

    items: tuple[Node, ...]
    line: int
    column: int


class Broken(NamedTuple):
    """A value that was refused; its flaw is already told."""

    line: int
    column: int


Node: TypeAlias = Text | Map | List | Broken
Path: TypeAlias = tuple[str | int, ...]


class Flaw(NamedTuple):
    """What is wrong with the YAML itself."""

    line: int
    column: int
    path: Path
    message: str


class Tree(NamedTuple):
    """What was read. `root` is None where the file as a whole cannot be read, which a flaw then tells."""

    root: Node | None
    flaws: tuple[Flaw, ...]


class _StopError(Exception):
    """Reading on makes no sense; the flaw is noted."""


def parse(data: bytes) -> Tree:
    """Reads one file. Never raises, whatever `data` holds."""
    if len(data) > MAX_BYTES:
        size = f"the file has more than {MAX_BYTES} bytes"
        return _refused(f"{size}; a config is a page of text, at most 1MiB")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        return _not_utf8(data, error.start)
    forbidden = [_forbidden(text, found) for found in islice(_FORBIDDEN.finditer(text), MAX_FORBIDDEN)]
    if forbidden:
        return Tree(None, tuple(forbidden))
    return _Builder(text).build()


def _refused(message: str, line: int = 1, column: int = 1) -> Tree:
    return Tree(None, (Flaw(line, column, (), message),))


def _not_utf8(data: bytes, offset_after_mark: int) -> Tree:
    mark = len(codecs.BOM_UTF8) if data.startswith(codecs.BOM_UTF8) else 0
    offset = mark + offset_after_mark
    line, column = _place(data[mark:offset].decode("utf-8"))
    return _refused(f"not UTF-8 at byte offset {offset}; save the file as UTF-8", line, column)


def _place(before: str) -> tuple[int, int]:
    """The line and column right after `before`."""
    breaks = before.count("\n") + before.count("\r") - before.count("\r\n")
    return breaks + 1, len(before) - max(before.rfind("\n"), before.rfind("\r"))


def _forbidden(text: str, found: re.Match[str]) -> Flaw:
    message = f"the character U+{ord(found.group()):04X} is not allowed here"
    return Flaw(*_place(text[: found.start()]), (), message)


def _spot(mark: Any) -> tuple[int, int]:
    """Line and column of one of the parser's marks; the stubs call them optional, the parser always sets them."""
    return mark.line + 1, mark.column + 1


def _plain_words(problem: str, found: str) -> str:
    if problem == "found character that cannot start any token":
        return "a tab; indent with spaces" if found == "\t" else f"a value that begins with '{found}' needs quotes"
    return _PLAIN_WORDS.get(problem, problem)


class _Builder:
    """Builds the tree of one text from the parser's events."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._events: Iterator[yaml.Event] = yaml.parse(text, Loader=yaml.CSafeLoader)
        self._flaws: list[Flaw] = []
        self._values = 0
        self._open: list[tuple[int, int]] = []

    def build(self) -> Tree:
        root: Node | None = None
        try:
            root = self._document()
        except _StopError:
            root = None
        except yaml.MarkedYAMLError as error:
            self._note_syntax(error)
            root = None
        return Tree(root, tuple(self._flaws))

    def _document(self) -> Node:
        next(self._events)
        start = next(self._events)
        if not isinstance(start, yaml.DocumentStartEvent):
            self._stop(1, 1, (), EMPTY)
        if start.version or start.tags:
            self._note(start, (), "directives ('%…') are not part of this language: leave them out")
        root = self._node(next(self._events), (), 0)
        next(self._events)
        after = next(self._events)
        if isinstance(after, yaml.DocumentStartEvent):
            self._note(after, (), "a second document begins here; one file holds one document, without '---' inside")
        return root

    def _node(self, event: yaml.Event, path: Path, depth: int) -> Node:
        line, column = _spot(event.start_mark)
        self._values += 1
        if self._values > MAX_VALUES:
            self._stop(line, column, (), f"the file holds more than {MAX_VALUES} values")
        if isinstance(event, yaml.AliasEvent):
            self._note(
                event, path, f"aliases ('*{str(event.anchor)[:40]}') are not part of this language: write it out"
            )
            return Broken(line, column)
        self._refuse_decoration(event, path)
        if isinstance(event, yaml.ScalarEvent):
            return self._scalar(event, path)
        if depth >= MAX_DEPTH:
            self._stop(line, column, path[:6], f"nested deeper than {MAX_DEPTH} levels")
        self._open.append((line, column))
        node: Node
        if isinstance(event, yaml.SequenceStartEvent):
            node = List(tuple(self._items(path, depth)), line, column)
        else:
            node = Map(self._entries(path, depth), line, column)
        self._open.pop()
        return node

    def _refuse_decoration(self, event: Any, path: Path) -> None:
        if event.anchor is not None:
            self._note(event, path, f"anchors ('&{event.anchor[:40]}') are not part of this language: write it out")
        if event.tag is not None:
            self._note(event, path, "tags ('!…') are not part of this language: leave the tag out")

    def _scalar(self, event: yaml.ScalarEvent, path: Path) -> Node:
        line, column = _spot(event.start_mark)
        if event.style == '"' and (found := _FORBIDDEN.search(event.value)):
            self._note(event, path, f"the text holds the character U+{ord(found.group()):04X}, which is not allowed")
            return Broken(line, column)
        return Text(event.value, line, column)

    def _items(self, path: Path, depth: int) -> Iterator[Node]:
        for index, event in enumerate(self._events):
            if isinstance(event, yaml.SequenceEndEvent):
                return
            yield self._node(event, (*path, index), depth + 1)

    def _entries(self, path: Path, depth: int) -> dict[str, Entry]:
        entries: dict[str, Entry] = {}
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            key = self._node(event, path, depth + 1)
            name = (*path, key.text) if isinstance(key, Text) else path
            value = self._node(next(self._events), name, depth + 1)
            if self._is_good_key(key, event, entries, name):
                entries[key.text] = Entry(key, value)
        return entries

    def _is_good_key(self, key: Node, event: yaml.Event, entries: dict[str, Entry], path: Path) -> TypeGuard[Text]:
        if not isinstance(key, Text):
            if not isinstance(key, Broken):
                self._note(event, path, "a key must be text")
            return False
        if key.text == _MERGE_KEY:
            self._note(event, path, "merges ('<<') are not part of this language: write it out")
            return False
        if first := entries.get(key.text):
            self._note(event, path, f"this key is here twice; the first is in line {first.key.line}")
            return False
        return True

    def _note_syntax(self, error: yaml.MarkedYAMLError) -> None:
        lines = re.split("\r\n|\r|\n", self._text)
        line, column = _spot(error.problem_mark)
        begun = _spot(error.context_mark) if error.context_mark else (line, column)
        end = (len(lines), len(lines[-1]))
        if (line, column) > end:
            # Nobody finds a mistake behind the last character; it lies where the unfinished thing begins.
            unfinished = next((spot for spot in (begun, *reversed(self._open)) if spot <= end), (1, 1))
            self._flaws.append(Flaw(*unfinished, (), "not YAML: the file ends before what begins here is complete"))
            return
        message = _plain_words(str(error.problem), lines[line - 1][column - 1 : column])
        if begun[0] != line:
            message += f" (begun in line {begun[0]})"
        self._flaws.append(Flaw(line, column, (), f"not YAML: {message}"))

    def _stop(self, line: int, column: int, path: Path, message: str) -> NoReturn:
        self._flaws.append(Flaw(line, column, path, message))
        raise _StopError

    def _note(self, event: yaml.Event, path: Path, message: str) -> None:
        self._flaws.append(Flaw(*_spot(event.start_mark), path, message))
