"""The strict subset of YAML."""

from __future__ import annotations

import codecs
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.config import yaml
from router.config.yaml import Broken, List, Map, Node, Text, parse


def flaws(text: str | bytes) -> list[str]:
    """The flaws of `text` as `line:column path message`."""
    data = text if isinstance(text, bytes) else text.encode()
    return [f"{flaw.line}:{flaw.column} {flaw.path} {flaw.message}" for flaw in parse(data).flaws]


def only_flaw(text: str | bytes) -> str:
    """The one flaw of `text`."""
    (flaw,) = flaws(text)
    return flaw


def read(text: str) -> Node:
    """The tree of `text`, which has no flaw."""
    tree = parse(text.encode())
    assert tree.flaws == ()
    assert tree.root is not None
    return tree.root


def value_of(text: str) -> str:
    """The text of key `a` in `text`."""
    root = read(text)
    assert isinstance(root, Map)
    value = root.entries["a"].value
    assert isinstance(value, Text)
    return value.text


def test_nodes_remember_where_they_stand() -> None:
    root = read("a: [x, {b: y}]\nc:\n  - é€ z\n")
    assert isinstance(root, Map)
    assert root.entries["a"].key == Text("a", 1, 1)
    a = root.entries["a"].value
    assert isinstance(a, List)
    assert (a.line, a.column) == (1, 4)
    assert a.items[0] == Text("x", 1, 5)
    assert isinstance(a.items[1], Map)
    assert a.items[1].entries["b"].value == Text("y", 1, 12)
    c = root.entries["c"].value
    assert isinstance(c, List)
    assert c.items == (Text("é€ z", 3, 5),)


@pytest.mark.parametrize("text", ["on", "off", "yes", "no", "12:30:45", "010", ".nan", "null", "~", "1e3", "0x10", "="])
def test_scalars_stay_text(text: str) -> None:
    assert value_of(f"a: {text}") == text


@pytest.mark.parametrize("text", ["on: 5", "null: 5", "1: 5", "~: 5"])
def test_keys_stay_text(text: str) -> None:
    root = read(text)
    assert isinstance(root, Map)
    assert list(root.entries) == [text.partition(":")[0]]


def test_an_empty_value_is_empty_text() -> None:
    assert value_of("a:\n") == ""


def test_a_byte_order_mark_is_no_part_of_the_text() -> None:
    assert value_of("\ufeffa: b") == "b"


def test_quotes_blocks_and_comments_are_allowed() -> None:
    assert value_of("--- # x\na: 'it''s' # y\n...\n") == "it's"
    assert value_of("a: |\n  b\n  c\n") == "b\nc\n"
    assert value_of('a: "é\\u00e9\\t"') == "éé\t"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: 1\nb: 2\na: 3\n", "3:1 ('a',) this key is here twice; the first is in line 1"),
        ("r: {x: 1, x: 2}", "1:11 ('r', 'x') this key is here twice; the first is in line 1"),
        ("a: &x 1", "1:4 ('a',) anchors ('&x')"),
        ("a: *x", "1:4 ('a',) aliases ('*x')"),
        ("- *x", "1:3 (0,) aliases ('*x')"),
        ("a: !!str 1", "1:4 ('a',) tags"),
        ("!!python/object/apply:os.system {a: b}", "1:1 () tags"),
        ("<<: {a: 1}", "1:1 ('<<',) merges"),
        ("? [a, b]\n: c", "1:3 () a key must be text"),
        ("*x : c", "1:1 () aliases"),
        ("a: 1\n---\nb: 2", "2:1 () a second document begins here"),
        ("%YAML 1.1\n---\na: 1", "1:1 () directives"),
        ("%TAG !e! tag:x,2000:\n---\na: 1", "1:1 () directives"),
        ('a: "\\x1b[31m"', "1:4 ('a',) the text holds the character U+001B"),
        ("", "1:1 () the file is empty"),
        ("# only a comment\n", "1:1 () the file is empty"),
        ("a: \x01", "1:4 () the character U+0001 is not allowed"),
        ("a: b\r\nc: \x85", "2:4 () the character U+0085 is not allowed"),
        ("a: b\rc: \u2028", "2:4 () the character U+2028 is not allowed"),
        ("a: \u202e", "1:4 () the character U+202E is not allowed"),
        ("a:\n\tb: 1", "2:1 () not YAML: a tab; indent with spaces"),
        ("é: @x", "1:4 () not YAML: a value that begins with '@' needs quotes"),
        ("a: [1,\n", "1:4 () not YAML: the file ends before"),
        ("a: b: c", "1:5 () not YAML: a ':' stands where no key can be"),
        ("a: [1, 2\nb: 3", "2:2 () not YAML: a '[' is never closed, or a ',' is missing (begun in line 1)"),
        ("a: 'x\n", "1:4 () not YAML: the file ends before what begins here is complete"),
        ("a: [1,", "1:4 () not YAML: the file ends before what begins here is complete"),
        ('a: "\\q"', "1:5 () not YAML: found unknown escape character"),
        ('a: "\\ud800"', "1:7 () not YAML: "),
    ],
)
def test_what_is_refused_is_told_with_its_place(text: str, expected: str) -> None:
    assert only_flaw(text).startswith(expected)


def test_what_is_refused_leaves_the_rest_readable() -> None:
    tree = parse(b"a: *x\nb: 1\n<<: {c: *y}\nb: &z 2\n")
    assert isinstance(tree.root, Map)
    assert tree.root.entries["a"].value == Broken(1, 4)
    assert list(tree.root.entries) == ["a", "b"]
    assert [flaw.line for flaw in tree.flaws] == [1, 3, 3, 4, 4]


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"\xff", "1:1 () not UTF-8 at byte offset 0"),
        (b"a: b\nc: \xc3\xa9\xe9", "2:5 () not UTF-8 at byte offset 10"),
        (codecs.BOM_UTF8 + b"a: \xff", "1:4 () not UTF-8 at byte offset 6"),
        ("a: b".encode("utf-16"), "1:1 () not UTF-8 at byte offset 0"),
    ],
)
def test_what_is_not_utf8_is_told_with_its_offset(data: bytes, expected: str) -> None:
    assert only_flaw(data).startswith(expected)


def test_each_forbidden_character_is_told_up_to_a_limit() -> None:
    assert len(flaws("a: \x01\x02")) == 2
    assert len(flaws("\x01" * 1000)) == yaml.MAX_FORBIDDEN


def test_a_large_file_is_refused_unread() -> None:
    assert "more than 1048576 bytes" in only_flaw(b"a" * (5 * 1024 * 1024))
    assert parse(b"a: " + b"b" * (yaml.MAX_BYTES - 3)).flaws == ()


@pytest.mark.parametrize("text", ["[" * 1000, "{a: " * 1000, "- " * 1000, "? " * 1000, "[" * 1_000_000])
def test_deep_nesting_is_refused_quickly(text: str) -> None:
    before = time.process_time()
    assert "nested deeper than 32 levels" in only_flaw(text)
    assert time.process_time() - before < 2.0


def test_nesting_up_to_the_limit_is_read() -> None:
    assert flaws("[" * yaml.MAX_DEPTH + "]" * yaml.MAX_DEPTH) == []


def test_the_number_of_values_is_capped() -> None:
    assert "more than 50000 values" in only_flaw("[" + "a," * 400_000 + "]")


def test_a_merge_bomb_is_refused_quickly() -> None:
    lines = ["a0: &a0 {x: y}"] + [f"a{n}: &a{n} {{<<: [*a{n - 1}, *a{n - 1}]}}" for n in range(1, 300)]
    before = time.process_time()
    assert len(flaws("\n".join(lines))) > 300
    assert time.process_time() - before < 2.0


@given(st.binary(max_size=200) | st.text(max_size=200).map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_anything_gives_a_tree_or_flaws(data: bytes) -> None:
    tree = parse(data)
    assert tree.root is not None or tree.flaws


@given(st.text(alphabet="ab:-?,[]{}&*!|>'\"%@`# \n\t\r<~.\\0é", max_size=60))
def test_anything_that_looks_like_yaml_gives_a_tree_or_flaws(text: str) -> None:
    tree = parse(text.encode())
    assert tree.root is not None or tree.flaws
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    for flaw in tree.flaws:
        assert 1 <= flaw.line <= len(lines)
        assert 1 <= flaw.column <= len(lines[flaw.line - 1]) + 1
