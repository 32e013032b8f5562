"""Rules from their file: the default ones, and each mistake with its line and its key."""

import pytest

from touchstream.agents.junk import VALUE_CHARACTERS, Junk, pattern_problem
from touchstream.agents.rules import Kind, Limit, Rules
from touchstream.agents.rules_file import LONGEST_CHARACTERS, default_rules, parse_rules
from touchstream.schemas import load_identity_rules_text
from touchstream.streams.errors import ConfigurationError
from touchstream.streams.topics import DAY_MS

LEAST = """\
max_identities = 10
max_component = 20
max_identifiers = 30

[kinds.other]
priority = 1
"""


def test_least_that_a_file_must_say() -> None:
    assert parse_rules(LEAST, "f") == Rules({}, Kind(1), 10, 20, 30)


def test_everything_that_a_file_can_say() -> None:
    text = """\
        max_identities = 10
        max_component = 20
        max_identifiers = 30
        junk = {texts = ["none"], patterns = ["0+"]}
        [kinds.other]
        priority = 1
        [kinds.email]
        priority = -2
        normaliser = "email"
        unique = true
        limit = {count = 3, days = 7}
        verified_only = true
        channels = ["web", "chat"]
        max_links = 4
        junk.texts = ["no@example.com"]
        junk.patterns = ["test@.*", "[^@]*"]
    """
    email = Kind(
        -2,
        "email",
        unique=True,
        limit=Limit(3, 7 * DAY_MS),
        verified_only=True,
        channels=frozenset({"web", "chat"}),
        max_links=4,
        junk_texts=frozenset({"no@example.com"}),
        junk_patterns=("test@.*", "[^@]*"),
    )
    general = (frozenset({"none"}), ("0+",))
    assert parse_rules(text, "f") == Rules({"email": email}, Kind(1), 10, 20, 30, *general)


def test_limit_without_days_is_for_ever() -> None:
    rules = parse_rules(LEAST + "limit.count = 5\n", "f")
    assert rules.other.limit == Limit(5, None)


def test_no_channels_at_all_may_be_said() -> None:
    assert parse_rules(LEAST + "channels = []\n", "f").other.channels == frozenset()


NUMBER = "must be a whole number from"
MISTAKES = [
    ("priority = 2", "7: not valid TOML: Cannot overwrite a value"),
    ("max_links =", "7: not valid TOML: Invalid value"),
    ("max_link = 5", "7: kinds.other.max_link is unknown: did you mean max_links?"),
    ("xyz = 5", "7: kinds.other.xyz is unknown: known are priority, normaliser, unique, limit,"),
    ('max_links = "5"', f'7: kinds.other.max_links {NUMBER} 1 to 1000000, is "5"'),
    ("max_links = 0", f"7: kinds.other.max_links {NUMBER} 1 to 1000000, is 0"),
    ("max_links = true", f"7: kinds.other.max_links {NUMBER} 1 to 1000000, is true"),
    ("max_links = 1.5", f"7: kinds.other.max_links {NUMBER} 1 to 1000000, is 1.5"),
    ("unique = 1", "7: kinds.other.unique must be true or false, is 1"),
    ('verified_only = "no"', '7: kinds.other.verified_only must be true or false, is "no"'),
    (
        'normaliser = "mail"',
        '7: kinds.other.normaliser must be one of text, email, phone, handle, is "mail"',
    ),
    ("normaliser = []", "7: kinds.other.normaliser must be one of text, email, phone, handle, is"),
    ("limit = 5", "7: kinds.other.limit must be a table, is 5"),
    ("limit = {}", f"7: kinds.other.limit.count is missing: {NUMBER[8:]} 1 to 10000"),
    ("limit = {count = 0}", f"7: kinds.other.limit.count {NUMBER} 1 to 10000, is 0"),
    (
        "\n\nlimit.count = 1\nlimit.days = 0",
        f"10: kinds.other.limit.days {NUMBER} 1 to 36525, is 0",
    ),
    ("limit = {count = 1, hours = 1}", "7: kinds.other.limit.hours is unknown: known are count,"),
    ('channels = "web"', '7: kinds.other.channels must be a list of strings, is "web"'),
    ("channels = [1]", "7: kinds.other.channels must hold strings only, holds 1"),
    ('channels = ["web",\n"fax"]', "7: kinds.other.channels must hold some of web, chat, phone,"),
    ('junk = ["none"]', "7: kinds.other.junk must be a table, is a list"),
    ("junk.text = []", "7: kinds.other.junk.text is unknown: did you mean texts?"),
    ("junk.texts = [true]", "7: kinds.other.junk.texts must hold strings only, holds true"),
    ("junk.patterns = ['(']", "7: kinds.other.junk.patterns holds '(', which is not a regular"),
    ("junk.patterns = ['(a+)+']", "7: kinds.other.junk.patterns holds '(a+)+', which could take"),
    ("[junk]\ntexts = {}", "8: junk.texts must be a list of strings, is a table"),
    ("[kinds.email]", f"7: kinds.email.priority is missing: {NUMBER[8:]} -1000 to 1000"),
    ("[kinds.email]\npriority = 1001", f"8: kinds.email.priority {NUMBER} -1000 to 1000, is 1001"),
    ("[kinds.Email]\npriority = 5", "7: kinds.Email must be a kind in lower case, without spaces"),
    (
        "[kinds.'mail ']\npriority = 5",
        "7: kinds.mail  must be a kind in lower case, without spaces",
    ),
    ("[kinds]\nemail = 5", "8: kinds.email must be a table, is 5"),
    ("[kind.email]", "7: kind is unknown: did you mean kinds?"),
]


def refused(text: str) -> str:
    with pytest.raises(ConfigurationError) as raised:
        parse_rules(text, "rules.toml")
    return str(raised.value)


@pytest.mark.parametrize(("added", "expected"), MISTAKES, ids=[added for added, _ in MISTAKES])
def test_mistake_is_refused_with_its_place(added: str, expected: str) -> None:
    assert refused(LEAST + added + "\n").startswith(f"rules.toml:{expected}")


@pytest.mark.parametrize(("added", "expected"), MISTAKES, ids=[added for added, _ in MISTAKES])
def test_mistake_is_one_line(added: str, expected: str) -> None:
    assert "\n" not in refused(LEAST + added + "\n")


@pytest.mark.parametrize(
    ("without", "expected"),
    [
        ("max_identities = 10\n", "rules.toml:1: max_identities is missing: a whole number from 1"),
        ("max_component = 20\n", "rules.toml:1: max_component is missing: a whole number from 2"),
        ("max_identifiers = 30\n", "rules.toml:1: max_identifiers is missing: a whole number"),
        ("priority = 1\n", "rules.toml:5: kinds.other.priority is missing: a whole number"),
        ("[kinds.other]\npriority = 1\n", "rules.toml:1: kinds is missing: one table a kind"),
    ],
)
def test_what_is_missing_is_named(without: str, expected: str) -> None:
    assert refused(LEAST.replace(without, "")).startswith(expected)


def test_file_without_the_rest_is_refused() -> None:
    text = LEAST.replace("[kinds.other]", "[kinds.email]")
    assert refused(text).startswith("rules.toml:5: kinds.other is missing: the table of every kind")


def test_file_that_is_too_long_is_refused() -> None:
    text = LEAST + "#" * LONGEST_CHARACTERS
    assert refused(text) == f"rules.toml: is longer than {LONGEST_CHARACTERS} characters"


@pytest.mark.parametrize(
    "pattern",
    [
        r".*@.*",
        r"(\d)\1{6,}",
        r"(test|nobody)@.*",
        r"(?!\+\d{7}).*",
        r"(?:ab){3}",
        r"(a)?(?(1)b|c)",
    ],
)
def test_pattern_of_few_ways_is_taken(pattern: str) -> None:
    assert pattern_problem(pattern) is None


@pytest.mark.parametrize(
    "pattern",
    [
        r"(a+)+",
        r"(a|a)*b",
        r".*.*.*",
        r"(a?){30}a{30}",
        r"(?:\D*\d)*",
        r"(?>a*){9}",
        "(a.|.b)" * 18,
    ],
)
def test_pattern_of_too_many_ways_is_refused(pattern: str) -> None:
    assert "could take very long" in str(pattern_problem(pattern))


@pytest.mark.parametrize("pattern", ["", "a" * 201, "(", "[", "*", "a{99999999999}", r"\1"])
def test_what_is_no_pattern_is_refused(pattern: str) -> None:
    assert pattern_problem(pattern)


def test_long_values_are_compared_with_texts_only() -> None:
    long = "x" * (VALUE_CHARACTERS + 1)
    assert Junk([], ["x*"]).holds(long[1:])
    assert not Junk([], ["x*"]).holds(long)
    assert Junk([long], []).holds(long)


def test_default_rules_are_those_of_the_shipped_file() -> None:
    assert default_rules() == parse_rules(load_identity_rules_text(), "identity.toml")


def test_every_key_of_a_kind_is_explained_in_the_shipped_file() -> None:
    text = load_identity_rules_text()
    keys = [name for name in Kind.__struct_fields__ if not name.startswith("junk_")]
    assert [key for key in (*keys, "junk") if f"\n#   {key} " not in text] == []


def test_unique_by_default_are_the_numbers_that_a_person_has_one_of() -> None:
    unique = {name for name, kind in default_rules().kinds.items() if kind.unique}
    assert unique == {"crm_id", "national_id"}


def test_default_rules_trust_every_channel_and_need_no_verification() -> None:
    kinds = [default_rules().other, *default_rules().kinds.values()]
    assert [kind for kind in kinds if kind.verified_only or kind.channels is not None] == []


def test_default_rules_take_five_cookies_a_week() -> None:
    assert default_rules().kind("anonymous_id").limit == Limit(5, 7 * DAY_MS)


def test_handles_of_all_platforms_have_the_rules_of_handles_by_default() -> None:
    assert default_rules().kind("mastodon_handle") is default_rules().kinds["handle"]
