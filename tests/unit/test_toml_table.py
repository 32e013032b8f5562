"""Where a key of a TOML text stands, whatever its spelling."""

import pytest

from touchstream.streams.errors import ConfigurationError
from touchstream.streams.toml_table import line_of, read_toml

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
    keys = path.split(".") if path else []
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
