"""Lines of files in, touchpoints or reasons with line numbers out."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from touchstream.streams.errors import ConfigurationError
from touchstream.streams.touchpoint_csv import read_csv
from touchstream.streams.touchpoint_files import (
    FileFormat,
    guess_format,
    read_ndjson,
    read_touchpoints,
)
from touchstream.streams.touchpoint_lines import Line, parse_cell, parse_time
from touchstream.streams.validation import validate_touchpoint

HEADER = b"event_id,occurred_at,action,identifier.email\n"


def csv_lines(*rows: bytes, header: bytes = HEADER, channel: str = "web") -> list[Line]:
    return list(read_csv(channel, [header, *rows]))


def outcomes(lines: Iterable[Line]) -> list[tuple[int, str]]:
    return [(line.number, line.reason) for line in lines]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("2026-01-02T03:04:05Z", datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)),
        (
            "2026-01-02 03:04:05.678+02:00",
            datetime(2026, 1, 2, 3, 4, 5, 678_000, tzinfo=timezone(timedelta(hours=2))),
        ),
        ("2026-01-02", datetime(2026, 1, 2, tzinfo=UTC)),
        ("1767312000000", 1_767_312_000_000),
        (1_767_312_000_000, 1_767_312_000_000),
        ("-5", -5),
    ],
)
def test_times_as_people_write_them(value: str | int, expected: int | datetime) -> None:
    assert parse_time("occurred_at", value) == expected


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("2026-01-02T03:04:05", "occurred_at has no time zone"),
        ("02.01.2026", "occurred_at must be ISO-8601"),
        ("9" * 30, "occurred_at must be ISO-8601"),
        ("19970101", "looks like seconds or a date"),
        (1_767_312_000, "looks like seconds or a date"),
    ],
)
def test_ambiguous_time_is_refused(value: str | int, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        parse_time("occurred_at", value)


def test_ndjson_line_becomes_a_touchpoint() -> None:
    line = (
        b'\xef\xbb\xbf{"event_id": "1", "occurred_at": "2026-01-02", "action": "x",'
        b' "identifiers": [{"kind": "a", "value": "b"}], "properties": {"k": "\xc3\xa9"}}\n'
    )
    [read] = read_ndjson("web", [line])
    assert read.touchpoint is not None
    validate_touchpoint("web", read.touchpoint)
    assert read.touchpoint["properties"] == {"k": "é"}


def test_bad_ndjson_lines_are_rejected_alone_with_their_numbers() -> None:
    lines = [b"{}\n", b"\n", b"{\n", b"[1]\n", b"\xff\n", b'{"sent_at": "soon"}', b"{}"]
    read = list(read_ndjson("web", lines))
    assert [(line.number, bool(line.reason)) for line in read] == [
        (1, False),
        (3, True),
        (4, True),
        (5, True),
        (6, True),
        (7, False),
    ]
    assert read[3].text == "\\xff"


def test_deep_json_is_rejected() -> None:
    [read] = read_ndjson("web", [b'{"a":' + b"[" * 100_000])
    assert read.reason.startswith("not JSON")


def test_csv_row_becomes_a_touchpoint() -> None:
    header = (
        b"\xef\xbb\xbfevent_id,occurred_at,action,identifier.email,identifier.email.verified,"
        b"identifier.loyalty_id,consent.marketing,properties.shop,value,quantity,items,promised_at\n"
    )
    row = (
        b'7,2026-01-02T00:00:00Z,placed,a@b.c,Yes,,no,"a, b",12.50,3,'
        b'"[{""sku"": ""s"", ""price"": 1}]",\n'
    )
    [read] = csv_lines(row, header=header, channel="purchase")
    assert read.touchpoint == {
        "event_id": "7",
        "occurred_at": datetime(2026, 1, 2, tzinfo=UTC),
        "action": "placed",
        "identifiers": [{"kind": "email", "value": "a@b.c", "verified": True}],
        "consent": {"marketing": False},
        "properties": {"shop": "a, b"},
        "value": 12.5,
        "quantity": 3,
        "items": [{"sku": "s", "price": 1}],
    }
    validate_touchpoint("purchase", read.touchpoint)


def test_bad_csv_rows_are_rejected_alone_with_their_first_line_number() -> None:
    rows = [
        b"1,0,x,a@b.c\n",
        b"\n",
        b"2,0,x\n",
        b'3,0,"x\ny",a@b.c\r\n',
        b"4,yesterday,x,a@b.c\n",
        b"5,0,x,\xff\n",
        b'6,0,"x"y,a@b.c\n',
        b"7,0,x,a@b.c",
    ]
    lines = b"".join([HEADER, *rows]).splitlines(keepends=True)
    assert outcomes(read_csv("web", lines)) == [
        (2, ""),
        (4, "the row has 3 cells, the header 4"),
        (5, ""),
        (7, "occurred_at must be ISO-8601 or epoch milliseconds, is 'yesterday'"),
        (8, "identifier.email is not valid UTF-8"),
        (9, "',' expected after '\"'"),
        (10, ""),
    ]


def test_rejected_csv_row_keeps_its_text() -> None:
    [read] = csv_lines(b'4,"1\n', b'2",x,\xff\r\n')
    assert read.text == '4,"1\n2",x,\\xff'


@pytest.mark.parametrize(
    ("header", "text"),
    [
        (b"event_id,occurred_at,action\n", "no column identifier.<kind>"),
        (b"occurred_at,action,identifier.email\n", "no column event_id, which is required"),
        (HEADER.replace(b"\n", b",colour\n"), "column 'colour': columns are the fields of web"),
        (HEADER.replace(b"\n", b",identifiers\n"), "column 'identifiers'"),
        (HEADER.replace(b"\n", b",action\n"), "column action twice"),
        (HEADER.replace(b"\n", b",identifier.x.verified\n"), "but not identifier.x"),
        (b"", "no column event_id"),
        (b'"event_id\n', "cannot be read"),
    ],
)
def test_header_that_cannot_be_understood_stops(header: bytes, text: str) -> None:
    with pytest.raises(ConfigurationError, match=text):
        csv_lines(header=header)


@pytest.mark.parametrize(
    ("kind", "cell", "expected"),
    [
        ("string", "x", "x"),
        ("long", "-12", -12),
        ("double", ".5e3", 500.0),
        ("boolean", "TRUE", True),
        ("boolean", "0", False),
        ("Item", "[]", []),
    ],
)
def test_cell_is_read_by_its_kind(kind: str, cell: str, expected: Any) -> None:
    assert parse_cell(kind, "field", cell) == expected


@pytest.mark.parametrize(
    ("kind", "cell"),
    [
        ("long", "1_000"),
        ("long", "1.0"),
        ("double", "nan"),
        ("double", "1,5"),
        ("boolean", "maybe"),
        ("Item", "a;b"),
    ],
)
def test_cell_of_another_kind_is_refused(kind: str, cell: str) -> None:
    with pytest.raises(ValueError, match="field must be"):
        parse_cell(kind, "field", cell)


@pytest.mark.parametrize(
    ("name", "line", "expected"),
    [
        ("a.CSV", b"{", FileFormat.CSV),
        ("a.jsonl", b"a,b", FileFormat.NDJSON),
        ("-", b'\xef\xbb\xbf {"a"', FileFormat.NDJSON),
        ("-", b"event_id,", FileFormat.CSV),
    ],
)
def test_format_is_guessed(name: str, line: bytes, expected: FileFormat) -> None:
    assert guess_format(name, line) is expected


@given(st.sampled_from(FileFormat), st.lists(st.binary(max_size=60)))
def test_any_bytes_give_lines(file_format: FileFormat, body: list[bytes]) -> None:
    lines = b"\n".join([HEADER.strip(), *body]).splitlines(keepends=True)
    for line in read_touchpoints("web", file_format, lines):
        assert (line.touchpoint is None) == bool(line.reason)
        assert line.text.encode()
