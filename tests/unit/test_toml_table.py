"""Where a key of a TOML text stands, whatever its spelling."""

from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from touchstream.streams.errors import ConfigurationError
from touchstream.streams.toml_table import TomlTable, line_of, read_toml

TEXT = '''# email: not yet
top = 1
"quoted key" = 2
dotted.inner.leaf = 3
texts = [
  "deep",
  "[kinds.phone]",
]
long = """
priority = 4
"""

[kinds.email]  # the table
priority = 5
limit = {count = 6, days = 7}
"max_links" = 8

[ kinds . "phone" ]
priority = 9
junk.texts = []

[kinds.phone.limit]
count = 10
'''


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("top", 2),
        ("quoted key", 3),
        ("dotted", 4),
        ("dotted.inner", 4),
        ("dotted.inner.leaf", 4),
        ("texts", 5),
        ("long", 9),
        ("kinds", 13),
        ("kinds.email", 13),
        ("kinds.email.priority", 14),
        ("kinds.email.limit.days", 15),
        ("kinds.email.max_links", 16),
        ("kinds.phone", 18),
        ("kinds.phone.priority", 19),
        ("kinds.phone.junk.texts", 20),
        ("kinds.phone.limit", 22),
        ("kinds.phone.limit.count", 23),
        ("kinds.email.deep", None),
        ("top.priority", None),
        ("", None),
    ],
)
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_line_of_a_key(path: str, line: int | None, newline: str) -> None:
    keys = tuple(path.split(".")) if path else ()
    assert line_of(TEXT.replace("\n", newline), keys) == line


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a = 1\nb =\n", "rules.toml:2: not valid TOML: Invalid value"),
        ("a = 1\na = 2\n", "rules.toml:2: not valid TOML: Cannot overwrite a value"),
        ("a = 1\n[b", "rules.toml:2: not valid TOML: Expected ']' at the end of a table"),
        ('a = 1\n\nb = """', "rules.toml:3: not valid TOML: "),
    ],
)
def test_text_that_is_not_toml_is_refused_with_its_line(text: str, expected: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        read_toml(text, "rules.toml")
    assert str(raised.value).startswith(expected)


def test_tables_read_what_they_hold() -> None:
    table = read_toml('a = 1\nb = true\nc = "x"\nd = ["y"]\n[e]\nf = 2\n', "f")
    assert table.whole("a", 0, 1) == 1
    assert table.flag("b", False)
    assert table.word("c", ("x", "y"), "y") == "x"
    assert table.texts("d") == ["y"]
    assert [(key, inner.whole("f", 0, 2)) for key, inner in [("e", table.table("e"))] if inner] == [
        ("e", 2)
    ]


def test_tables_give_the_default_for_what_they_do_not_hold() -> None:
    table = read_toml("", "f")
    assert (table.whole("a", 0, 9, 7), table.flag("b", True)) == (7, True)
    assert (table.word("c", ("x",), "x"), table.texts("d"), table.table("e")) == ("x", None, None)


VALUES = """\
text = "x"
share = 0.5
number = 3
day = 2026-01-31
moment = 2026-01-31T12:00:00+02:00
name = "a"
weights = { a = 1, b = -2 }
empty = ""
[[list]]
a = 1
[[list]]
b = 2
"""


def test_tables_read_texts_numbers_moments_and_weights() -> None:
    table = read_toml(VALUES, "f")
    assert (table.text("text"), table.fraction("share"), table.number("number")) == ("x", 0.5, 3.0)
    assert table.moment("day") == datetime(2026, 1, 31, tzinfo=UTC)
    assert table.moment("moment") == datetime(2026, 1, 31, 10, tzinfo=UTC)
    assert (table.weights("name"), table.weights("weights")) == ({"a": 1}, {"a": 1, "b": -2})
    assert [list(each) for each in table.array("list")] == [["a"], ["b"]]


def test_what_may_be_missing_is_none_or_empty() -> None:
    table = read_toml("", "f")
    assert (table.fraction("a"), table.number("a"), table.moment("a")) == (None, None, None)
    assert (table.weights("a"), table.array("a")) == ({}, [])


@pytest.mark.parametrize(
    ("read", "message"),
    [
        (lambda table: table.text("none"), "f:1: none is missing: a text"),
        (lambda table: table.text("empty"), 'f:8: empty must be a text, is ""'),
        (lambda table: table.fraction("number"), "f:3: number must be a number between 0 and 1"),
        (lambda table: table.number("text"), 'f:1: text must be a number, is "x"'),
        (lambda table: table.moment("share"), "f:2: share must be a date or a time such as 2026"),
        (lambda table: table.weights("share"), "f:2: share must be a name, or whole numbers by"),
        (lambda table: table.array("weights"), "f:7: weights must be an array of tables, is a t"),
        (lambda table: table.array("list")[1].text("b"), "f:12: list[1].b must be a text, is 2"),
        (lambda table: table.array("list")[1].text("a"), "f:11: list[1].a is missing: a text"),
    ],
)
def test_value_that_is_no_such_thing_is_refused_with_its_line(
    read: Callable[[TomlTable], object], message: str
) -> None:
    with pytest.raises(ConfigurationError) as raised:
        read(read_toml(VALUES, "f"))
    assert str(raised.value).startswith(message)
