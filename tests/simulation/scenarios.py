"""Lives of one customer with everything that must come of them, computed by hand.

Each section of `docs/definitions.md` has its cases. What a scenario does not mention is not
claimed. Hours and days are counted from DAY, midnight UTC of 2024-10-04.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Published = tuple[str, dict[str, Any]]
"""Channel and touchpoint."""
Group = tuple[str, str, str]
"""Level with its window, dimension, member."""
DAY = 20_000
DAY_MS = 86_400_000
HOUR_MS = 3_600_000
MINUTE_MS = 60_000


@dataclass(frozen=True)
class Scenario:
    """Touchpoints of one customer, and what must come out."""

    name: str
    touchpoints: Sequence[Published]
    measured: Mapping[str, Sequence[tuple[int, int]]] = field(default_factory=dict)
    """All measurements of a measure: moment and value, sorted."""
    members: Mapping[str, Sequence[Sequence[tuple[str, str]]]] = field(default_factory=dict)
    """Dimension and member of each measurement of a measure, in the order of their moments."""
    levels: Mapping[Group, Sequence[tuple[int, int]]] = field(default_factory=dict)
    """All changes of a level: day, counted from DAY, and sum; sorted, without zeros."""
    customer: Mapping[str, Any] = field(default_factory=dict)
    sessions: Sequence[Mapping[str, Any]] | None = None
    visits: Sequence[Mapping[str, Any]] | None = None
    issues: Sequence[Mapping[str, Any]] | None = None
    paths: Sequence[Mapping[str, Any]] | None = None
    """All rows by time, each with the columns that it claims."""


def at(day: float, hour: float = 0, minute: float = 0) -> int:
    """A moment in ms."""
    return round((DAY + day) * DAY_MS + hour * HOUR_MS + minute * MINUTE_MS)


def touch(kind: str, when: int, **fields: Any) -> Published:
    """A touchpoint `channel.action`; its event id is its own unless said otherwise."""
    channel, _, action = kind.partition(".")
    common = {
        "event_id": f"{action}-{when}",
        "occurred_at": when,
        "action": action,
        "identifiers": [{"kind": "crm_id", "value": "4711", "verified": True}],
    }
    return channel, {**common, **fields}


def order(day: float, hour: float = 12, **fields: Any) -> Published:
    """An order."""
    value = {"value": 10.0, "currency": "EUR", **fields}
    return touch("purchase.placed", at(day, hour), **value)


def answer(day: float, question: str, score: float, **fields: Any) -> Published:
    """An answer to a survey at noon."""
    return touch("survey.answered", at(day, 12), question=question, score=score, **fields)


def call(day: float, hour: float = 12, **fields: Any) -> Published:
    """A call that ended."""
    return touch("phone.ended", at(day, hour), **fields)


def chat(day: float, hour: float = 12, **fields: Any) -> Published:
    """A chat that ended."""
    return touch("chat.ended", at(day, hour), **fields)


def scale(low: float, high: float) -> dict[str, float]:
    """Fields of an asked scale."""
    return {"scale_min": low, "scale_max": high}


NOON = at(0, 12)
WEEK = 7
PHONE, CHAT, WEB = ("channel", "phone"), ("channel", "chat"), ("channel", "web")
BUYER = ("stage", "purchase")

ORDER_AND_DUPLICATES = [
    Scenario(
        "a duplicate counts once",
        [touch("web.referred", NOON), touch("web.referred", NOON)],
        measured={"referral": [(NOON, 1)]},
        customer={"touchpoints": 1, "advocacy": {"referrals": 1}},
    ),
    Scenario(
        "the order of publishing does not matter, the order of events does",
        [
            touch("web.page_viewed", at(2), account_id="late", properties={"segment": "gold"}),
            touch("web.page_viewed", at(1), account_id="early", properties={"segment": "tin"}),
        ],
        customer={
            "account_id": "late",
            "segment": "gold",
            "first_touch_at": at(1),
            "last_touch_at": at(2),
            "touchpoints_by_channel": {"web": 2},
        },
    ),
    Scenario(
        "at one moment channels come in the order of their names",
        [
            touch("web.page_viewed", NOON, account_id="last"),
            touch("chat.started", NOON, account_id="first", campaign="spring"),
        ],
        customer={
            "first_touch_channel": "chat",
            "first_touch_campaign": "spring",
            "last_touch_channel": "web",
            "last_touch_campaign": "",
            "account_id": "last",
        },
    ),
]

MEMBERS = [
    Scenario(
        "a measurement has the members that the customer has right after the touchpoint",
        [
            touch("web.prices_viewed", at(0, 1), properties={"segment": "s" * 130}),
            chat(
                0,
                2,
                queue="sales",
                campaign="spring",
                account_id="acme",
                properties={"team": "blue"},
            ),
            order(0, 3, properties={"segment": "gold"}),
        ],
        members={
            "contact": [
                [
                    CHAT,
                    ("queue", "sales"),
                    ("team", "blue"),
                    ("campaign", "spring"),
                    ("segment", "s" * 128),
                    ("account", "acme"),
                    ("stage", "evaluate"),
                ]
            ],
            "order": [[("channel", "purchase"), ("segment", "gold"), ("account", "acme"), BUYER]],
        },
    ),
    Scenario(
        "an answer belongs to the channel it asks about",
        [answer(0, "csat", 4, about_channel="phone"), answer(1, "csat", 4)],
        members={"csat": [[PHONE], [("channel", "survey")]]},
    ),
]

ANSWERS = [
    Scenario(
        "answers on the usual scales",
        [answer(0, "csat", 4), answer(1, "ces", 6), answer(2, "trust", 3), answer(3, "nps", 9)],
        measured={
            "csat": [(NOON, 4000)],
            "csat_top2": [(NOON, 1)],
            "ces": [(at(1, 12), 6000)],
            "ces_index": [(at(1, 12), 1)],
            "ces_easy": [(at(1, 12), 1)],
            "trust": [(at(2, 12), 3000)],
            "trust_top2": [(at(2, 12), 0)],
            "nps": [(at(3, 12), 1)],
            "promoter": [(at(3, 12), 1)],
            "passive": [(at(3, 12), 0)],
            "detractor": [(at(3, 12), 0)],
            "enps": [],
        },
        customer={
            "answers": {"csat": 1, "ces": 1, "trust": 1, "nps": 1},
            "answer_sums": {"csat": 4.0, "ces": 6.0, "trust": 3.0, "nps": 9.0},
            "last_csat": 4.0,
            "last_ces": 6.0,
            "last_trust": 3.0,
            "last_nps": 9.0,
        },
    ),
    Scenario(
        "answers are converted from the asked scale",
        [
            answer(0, "csat", 9, **scale(1, 10)),  # 1 + 8 / 9 * 4
            answer(1, "csat", 1, **scale(0, 1)),
            answer(2, "csat", 2, **scale(1, 3)),
            answer(3, "csat", 4, **scale(1, 4)),
            answer(4, "trust", 50, **scale(0, 100)),
            answer(5, "ces", 4, **scale(1, 5)),  # 1 + 3 / 4 * 6
        ],
        measured={
            "csat": [(at(0, 12), 4556), (at(1, 12), 5000), (at(2, 12), 3000), (at(3, 12), 5000)],
            "csat_top2": [(at(0, 12), 1), (at(1, 12), 1), (at(2, 12), 0), (at(3, 12), 1)],
            "trust": [(at(4, 12), 3000)],
            "trust_top2": [(at(4, 12), 0)],
            "ces": [(at(5, 12), 5500)],
        },
        customer={"answers": {"csat": 4, "trust": 1, "ces": 1}, "last_csat": 5.0, "last_nps": None},
    ),
    Scenario(
        "boundaries of the effort index",
        [
            answer(day, "ces", score)
            for day, score in enumerate((5.5, 5.4, 3.5, 3.4, 4.5, 4.4, 1, 7))
        ],
        measured={
            "ces_index": [
                (at(day, 12), value) for day, value in enumerate((1, 0, 0, -1, 0, 0, -1, 1))
            ],
            "ces_easy": [
                (at(day, 12), value) for day, value in enumerate((1, 1, 0, 0, 1, 0, 0, 1))
            ],
        },
    ),
    Scenario(
        "boundaries of recommendations",
        [answer(day, "nps", score) for day, score in enumerate((0, 6, 7, 8, 9, 10))],
        measured={
            "nps": [(at(day, 12), value) for day, value in enumerate((-1, -1, 0, 0, 1, 1))],
            "promoter": [(at(day, 12), value) for day, value in enumerate((0, 0, 0, 0, 1, 1))],
            "passive": [(at(day, 12), value) for day, value in enumerate((0, 0, 1, 1, 0, 0))],
            "detractor": [(at(day, 12), value) for day, value in enumerate((1, 1, 0, 0, 0, 0))],
        },
        customer={"answers": {"nps": 6}, "answer_sums": {"nps": 40.0}, "last_nps": 10.0},
    ),
    Scenario(
        "an answer without a score, and one to another question, is no answer",
        [
            touch("survey.answered", at(0), question="csat"),
            answer(1, "taste", 3),
            touch("survey.invited", at(2), question="csat", score=3.0),
        ],
        measured={"csat": [], "csat_top2": []},
        customer={"answers": {}, "answer_sums": {}, "last_csat": None},
    ),
    Scenario(
        "employees: enps and engagement, and nothing else",
        [
            touch("employee.answered", at(0), question="enps", score=9.0, team="red"),
            touch("employee.answered", at(1), question="csat", score=5.0),
            touch("employee.answered", at(2), question="trust", score=4.0, item="q12-1"),
            touch("employee.answered", at(3), question="trust", score=3.0, item="q12-2"),
        ],
        measured={
            "enps": [(at(0), 1)],
            "engagement": [(at(2), 1), (at(3), 0)],
            "csat": [],
            "trust": [],
            "nps": [],
        },
        members={"enps": [[("channel", "employee"), ("team", "red")]]},
        customer={"answers": {}, "sessions": 0},
    ),
    Scenario(
        "an invitation is answered once, with a score or without",
        [
            touch("survey.invited", at(0), invitation_id="one"),
            touch("survey.invited", at(1), invitation_id="two"),
            touch("survey.invited", at(2)),
            touch("survey.answered", at(3), invitation_id="one"),
            touch("survey.answered", at(4), invitation_id="one", question="csat", score=5.0),
            touch("survey.answered", at(5), invitation_id="three"),
        ],
        measured={"invited": [(at(0), 1), (at(1), 1)], "responded": [(at(0), 1)]},
    ),
    Scenario(
        "an answer before the invitation does not answer it",
        [
            touch("survey.answered", at(0), invitation_id="one"),
            touch("survey.invited", at(1), invitation_id="one"),
        ],
        measured={"invited": [(at(1), 1)], "responded": []},
    ),
    Scenario(
        "the latest 16 open invitations are known",
        [
            *(touch("survey.invited", at(n), invitation_id=f"i{n}") for n in range(18)),
            touch("survey.answered", at(20), invitation_id="i1"),
            touch("survey.answered", at(21), invitation_id="i2"),
        ],
        measured={"responded": [(at(2), 1)]},
    ),
    Scenario(
        "answered invitations take no place",
        [
            touch("survey.invited", at(0), invitation_id="i0"),
            touch("survey.invited", at(1), invitation_id="i1"),
            touch("survey.answered", at(1, 1), invitation_id="i1"),
            *(touch("survey.invited", at(n), invitation_id=f"i{n}") for n in range(2, 17)),
            touch("survey.answered", at(20), invitation_id="i0"),
        ],
        measured={"responded": [(at(0), 1), (at(1), 1)]},
    ),
]

TEXTS = [
    Scenario(
        "sentiment, mentions and reviews",
        [
            touch("social.posted", at(0), sentiment=0.05),
            touch("social.posted", at(1), sentiment=-0.05),
            touch("social.mentioned", at(2), sentiment=0.0499),
            touch("social.mentioned", at(3), properties={"brand": "other"}),
            touch("social.reviewed", at(4), rating=4.0),
            touch("social.reviewed", at(5), rating=3.9),
            touch("social.reviewed", at(6)),
        ],
        measured={
            "sentiment": [(at(0), 500), (at(1), -500), (at(2), 499)],
            "net_sentiment": [(at(0), 1), (at(1), -1), (at(2), 0)],
            "mention": [(at(2), 1), (at(3), 0)],
            "review": [(at(4), 1), (at(5), 1), (at(6), 1)],
            "good_review": [(at(4), 1)],
        },
        customer={"texts_scored": 3, "sentiment_sum": 0.0499, "advocacy": {"reviews": 3}},
    ),
]

CALLS = [
    Scenario(
        "an answered call: in time at 20 s",
        [
            call(0, talk_ms=60_000, hold_ms=5_000, wrap_up_ms=7_000, wait_ms=20_000, transfers=2),
            call(10, talk_ms=1, wait_ms=20_001),
            call(20),
        ],
        measured={
            "answered": [(NOON, 1), (at(10, 12), 1), (at(20, 12), 1)],
            "answered_in_time": [(NOON, 1)],
            "answer_time": [(NOON, 20_000), (at(10, 12), 20_001)],
            "handle_time": [(NOON, 72_000), (at(10, 12), 1)],
            "transferred": [(NOON, 1), (at(10, 12), 0), (at(20, 12), 0)],
            "abandoned": [],
        },
    ),
    Scenario(
        "abandoned calls: soon at 5 s, in time at 20 s",
        [
            call(0, abandoned=True, wait_ms=5_000, talk_ms=9, transfers=1),
            call(1, abandoned=True, wait_ms=20_000),
            call(2, abandoned=True, wait_ms=20_001),
            call(3, abandoned=True),
        ],
        measured={
            "answered": [],
            "abandoned": [(at(day, 12), 1) for day in range(4)],
            "abandoned_in_time": [(NOON, 1), (at(1, 12), 1)],
            "abandoned_soon": [(NOON, 1)],
            "contact": [(at(day, 12), 1) for day in range(4)],
            "handle_time": [],
            "transferred": [],
            "answer_time": [],
            "repeated": [],
        },
        customer={"contacts": 4, "contacts_by_channel": {"phone": 4}, "open_issues": 0},
        issues=[],
    ),
    Scenario(
        "a chat that ended",
        [chat(0, wait_ms=0, handle_ms=90_000, transfers=0), touch("chat.message", at(0, 13))],
        measured={
            "first_response": [(NOON, 0)],
            "handle_time": [(NOON, 90_000)],
            "transferred": [(NOON, 0)],
            "answered": [],
            "contact": [(NOON, 1)],
        },
    ),
]

ISSUES = [
    Scenario(
        "solved at the first contact, also when it did not say",
        [call(0, topic="bill", resolved=True), call(0, 13, topic="line")],
        measured={
            "first_contact_resolved": [(NOON, 1), (at(0, 13), 1)],
            "first_contact_resolved_finally": [(at(WEEK, 12), 1), (at(WEEK, 13), 1)],
            "repeated": [(NOON, 0), (at(0, 13), 0)],
            "reopened": [(NOON, 0)],
        },
        customer={"open_issues": 1, "solved_issues": 1},
        issues=[
            {"opened_at": NOON, "topic": "bill", "contacts": 1, "solved": True, "reopened": 0},
            {"opened_at": at(0, 13), "topic": "line", "contacts": 1, "solved": False},
        ],
    ),
    Scenario(
        "not solved at the first contact, because it said so",
        [call(0, topic="bill", resolved=False)],
        measured={
            "first_contact_resolved": [(NOON, 0)],
            "first_contact_resolved_finally": [(at(WEEK, 12), 0)],
            "reopened": [],
        },
    ),
    Scenario(
        "another contact after 7 days to the millisecond belongs to the issue; it reopens it",
        [
            call(0, topic="bill", resolved=True, queue="q1"),
            chat(WEEK, topic="bill", resolved=True, queue="q2"),
        ],
        measured={
            "first_contact_resolved": [(NOON, 0)],
            "first_contact_resolved_finally": [(at(WEEK, 12), 0)],
            "switched": [(NOON, 1)],
            "issue_contacts": [(NOON, 2)],
            "repeated": [(NOON, 0), (at(WEEK, 12), 1)],
            "reopened": [(NOON, 1), (at(WEEK, 12), 0)],
        },
        members={
            "first_contact_resolved": [[PHONE, ("queue", "q1")]],
            "first_contact_resolved_finally": [[PHONE, ("queue", "q1")]],
            "issue_contacts": [[PHONE, ("queue", "q1")]],
            "reopened": [[PHONE, ("queue", "q1")], [CHAT, ("queue", "q2")]],
        },
        issues=[
            {
                "opened_at": NOON,
                "topic": "bill",
                "last_contact_at": at(WEEK, 12),
                "contacts": 2,
                "channels": ["chat", "phone"],
                "solved": True,
                "reopened": 1,
            }
        ],
    ),
    Scenario(
        "a contact after more than 7 days opens a new issue",
        [call(0, topic="bill"), touch("phone.ended", at(WEEK, 12) + 1, topic="bill")],
        measured={
            "first_contact_resolved": [(NOON, 1), (at(WEEK, 12) + 1, 1)],
            "issue_contacts": [(NOON, 1), (at(WEEK, 12) + 1, 1)],
            "repeated": [(NOON, 0), (at(WEEK, 12) + 1, 0)],
        },
        customer={"open_issues": 2},
    ),
    Scenario(
        "silence is counted from the last contact, not from the first",
        [call(0, topic="bill"), call(6, topic="bill"), call(12, topic="bill", resolved=False)],
        measured={
            "first_contact_resolved": [(NOON, 0)],
            "issue_contacts": [(NOON, 3)],
            "switched": [(NOON, 0)],
        },
        customer={"open_issues": 1, "solved_issues": 0},
    ),
    Scenario(
        "topics are apart, and no topic is one of its own",
        [
            touch("email.replied", at(0)),
            touch("sms.replied", at(1)),
            touch("social.messaged", at(2)),
            touch("in_person.ended", at(3)),
            chat(4, topic="bill"),
        ],
        measured={
            "contact": [(at(0), 1), (at(1), 1), (at(2), 1), (at(3), 1), (at(4, 12), 1)],
            "issue_contacts": [(at(0), 4), (at(4, 12), 1)],
            "switched": [(at(0), 1), (at(4, 12), 0)],
        },
        issues=[
            {"topic": "", "channels": ["email", "in_person", "sms", "social"], "contacts": 4},
            {"topic": "bill", "channels": ["chat"], "contacts": 1},
        ],
    ),
    Scenario(
        "a late contact opens the issue that another one had opened",
        [call(3, topic="bill", resolved=True), call(0, topic="bill", resolved=True)],
        measured={
            "first_contact_resolved": [(NOON, 0)],
            "repeated": [(NOON, 0), (at(3, 12), 1)],
            "reopened": [(NOON, 1), (at(3, 12), 0)],
        },
    ),
    Scenario(
        "the latest 16 issues are open to further contacts",
        [
            *(call(0, n, topic=f"t{n:02}") for n in range(17)),
            call(1, 0, topic="t01"),
            call(1, 1, topic="t00"),
        ],
        measured={
            "repeated": [*((at(0, n), 0) for n in range(17)), (at(1, 0), 1), (at(1, 1), 0)],
        },
    ),
]

ORDERS = [
    Scenario(
        "orders and revenue, also without a value",
        [order(0, value=12.34), touch("purchase.placed", at(0, 13)), order(2, value=0.0001)],
        measured={
            "order": [(NOON, 1), (at(0, 13), 1), (at(2, 12), 1)],
            "revenue": [(NOON, 123_400), (at(0, 13), 0), (at(2, 12), 1)],
            "purchase_gap": [(at(2, 12), 2)],
            "order_returned": [],
        },
        customer={
            "orders": 3,
            "revenue_e4": 123_401,
            "first_order_at": NOON,
            "last_order_at": at(2, 12),
            "order_days": 2,
        },
    ),
    Scenario(
        "a return makes its order returned, once",
        [
            order(0, order_id="a", campaign="spring"),
            order(1, order_id="b"),
            touch("purchase.returned", at(5), order_id="a", value=4.0),
            touch("purchase.returned", at(6), order_id="a", value=2.0),
            touch("purchase.returned", at(7), order_id="c", value=1.0),
            touch("purchase.returned", at(8), value=1.0),
        ],
        measured={"order_returned": [(NOON, 1)]},
        members={
            "order_returned": [[("channel", "purchase"), ("campaign", "spring"), BUYER]],
        },
        customer={"returns": 4, "returned_e4": 80_000},
    ),
    Scenario(
        "a return before its order does not count for it",
        [touch("purchase.returned", at(0), order_id="a"), order(1, order_id="a")],
        measured={"order_returned": []},
        customer={"returns": 1, "returned_e4": 0},
    ),
    Scenario(
        "the latest 32 orders are known",
        [
            *(order(n, order_id=f"o{n}") for n in range(33)),
            touch("purchase.returned", at(40), order_id="o0"),
            touch("purchase.returned", at(41), order_id="o1"),
        ],
        measured={"order_returned": [(at(1, 12), 1)]},
    ),
    Scenario(
        "of the same order id the latest is known",
        [
            order(0, order_id="a"),
            order(1, order_id="a"),
            touch("purchase.returned", at(2), order_id="a"),
        ],
        measured={"order_returned": [(at(1, 12), 1)]},
    ),
    Scenario(
        "deliveries with a promise: of their own, of their order, or none",
        [
            order(0, order_id="a", promised_at=at(3)),
            touch("purchase.delivered", at(3), order_id="a"),
            touch("purchase.delivered", at(4), order_id="a", delivered_at=at(3) + 5),
            touch("purchase.delivered", at(5), order_id="a", promised_at=at(6)),
            touch("purchase.delivered", at(6), order_id="b", promised_at=at(5)),
            touch("purchase.delivered", at(7), order_id="b"),
        ],
        measured={
            "delivery_on_time": [(at(3), 1), (at(4), 0), (at(5), 1), (at(6), 0)],
            "delivery_lateness": [(at(3), 0), (at(4), 5), (at(5), 0), (at(6), DAY_MS)],
        },
    ),
    Scenario(
        "orders are late from the promised day until they are delivered, returned or cancelled",
        [
            order(0, order_id="a", promised_at=at(3, 23)),
            order(0, 13, order_id="b", promised_at=at(3)),
            order(0, 14, order_id="c", promised_at=at(3)),
            order(0, 15, order_id="d", promised_at=at(3)),
            order(0, 16, order_id="e"),
            touch("purchase.delivered", at(3, 23.5), order_id="a"),
            touch("purchase.cancelled", at(5), order_id="b"),
            touch("purchase.delivered", at(6), order_id="b"),
            touch("purchase.returned", at(8), order_id="c"),
        ],
        levels={("late", "all", ""): [(3, 3), (5, -1), (8, -1)]},
    ),
]

LEVELS = [
    Scenario(
        "buyers of windows: an order on days 0 and 20",
        [order(0), order(20)],
        levels={
            ("buyers@24h", "all", ""): [(0, 1), (1, -1), (20, 1), (21, -1)],
            ("buyers@7d", "all", ""): [(0, 1), (7, -1), (20, 1), (27, -1)],
            ("buyers@30d", "all", ""): [(0, 1), (50, -1)],
            ("buyers@all", "all", ""): [(0, 1)],
            ("repeat_buyers@7d", "all", ""): [],
            ("repeat_buyers@30d", "all", ""): [(20, 1), (30, -1)],
            ("repeat_day_buyers@30d", "all", ""): [(20, 1), (30, -1)],
            ("repeat_buyers@all", "all", ""): [(20, 1)],
            ("earlier_buyers@7d", "all", ""): [(7, 1), (14, -1), (27, 1), (34, -1)],
            ("earlier_buyers@30d", "all", ""): [(30, 1), (80, -1)],
            ("retained_buyers@7d", "all", ""): [],
            ("retained_buyers@30d", "all", ""): [(30, 1), (50, -1)],
            ("earlier_buyers@all", "all", ""): [],
        },
    ),
    Scenario(
        "two orders on one day: repeat buyers by order, not by day",
        [order(0), order(0, 13), order(3)],
        levels={
            ("repeat_buyers@24h", "all", ""): [(0, 1), (1, -1)],
            ("repeat_day_buyers@24h", "all", ""): [],
            ("repeat_buyers@7d", "all", ""): [(0, 1), (7, -1)],
            ("repeat_day_buyers@7d", "all", ""): [(3, 1), (7, -1)],
            ("repeat_buyers@all", "all", ""): [(0, 1)],
            ("repeat_day_buyers@all", "all", ""): [(3, 1)],
        },
    ),
    Scenario(
        "retained: the day after the window is a new window",
        [order(0), order(7)],
        levels={
            ("buyers@7d", "all", ""): [(0, 1), (14, -1)],
            ("earlier_buyers@7d", "all", ""): [(7, 1), (21, -1)],
            ("retained_buyers@7d", "all", ""): [(7, 1), (14, -1)],
            ("repeat_buyers@7d", "all", ""): [],
        },
    ),
    Scenario(
        "segments and accounts have the orders placed in them, as if there were no others",
        [
            order(0, properties={"segment": "tin"}),
            order(3, properties={"segment": "gold"}, account_id="acme"),
            order(4),
        ],
        levels={
            ("buyers@7d", "all", ""): [(0, 1), (11, -1)],
            ("buyers@7d", "segment", "tin"): [(0, 1), (7, -1)],
            ("buyers@7d", "segment", "gold"): [(3, 1), (11, -1)],
            ("buyers@7d", "account", "acme"): [(3, 1), (11, -1)],
            ("repeat_buyers@all", "all", ""): [(3, 1)],
            ("repeat_buyers@all", "segment", "tin"): [],
            ("repeat_buyers@all", "segment", "gold"): [(4, 1)],
            ("earlier_buyers@7d", "segment", "tin"): [(7, 1), (14, -1)],
        },
    ),
    Scenario(
        "active customers: any touchpoint, also one that is not of their own doing",
        [touch("email.sent", at(0, 23)), touch("web.page_viewed", at(1))],
        levels={
            ("active@24h", "all", ""): [(0, 1), (2, -1)],
            ("active@7d", "all", ""): [(0, 1), (8, -1)],
            ("active@all", "all", ""): [(0, 1)],
            ("customers", "all", ""): [(0, 1)],
            ("buyers@all", "all", ""): [],
        },
    ),
    Scenario(
        "at risk after 90 days without a usual gap",
        [order(0), order(10), order(101), order(193)],
        levels={("at_risk", "all", ""): [(192, 1), (193, -1), (286, 1)]},
        # gaps 10, 91, 92: too few on days 0, 10 and 101; 92 on day 193
        customer={"usual_gap_days": 92, "at_risk_from": at(286)},
    ),
    Scenario(
        "at risk after the usual gap: the 90th percentile of gaps between order days",
        [order(day) for day in (0, 2, 4, 10, 10.25, 11)] + [order(30)],
        # gaps 2, 2, 6, 1, 19: usual 6 on days 10 and 11, 19 at the end
        levels={("at_risk", "all", ""): [(18, 1), (30, -1), (50, 1)]},
        customer={"usual_gap_days": 19, "at_risk_from": at(50), "order_days": 6},
    ),
    Scenario(
        "the usual gap knows the last 16 gaps; the 90th percentile of 16 is the 15th",
        [order(sum([50, 9, 8, *[1] * 14][:n])) for n in range(18)],
        # gaps 50, 9, 8, then 14 of 1: the last 16 are 9, 8 and 14 of 1
        customer={"usual_gap_days": 8, "at_risk_from": at(81 + 9)},
    ),
    Scenario(
        "nobody is at risk without an order",
        [touch("web.page_viewed", NOON)],
        levels={("at_risk", "all", ""): []},
        customer={"usual_gap_days": 90, "at_risk_from": None, "order_days": 0},
    ),
]

SESSIONS = [
    Scenario(
        "a silence of 30 minutes is none; one millisecond more is",
        [
            touch("web.page_viewed", NOON),
            touch("web.searched", at(0, 12, 30), campaign="spring"),
            touch("purchase.placed", at(0, 12, 40), campaign="late"),
            touch("chat.started", at(0, 13, 10) + 1),
        ],
        sessions=[
            {
                "started_at": NOON,
                "ended_at": at(0, 12, 40),
                "touchpoints": 3,
                "channels": ["web", "purchase"],
                "campaign": "spring",
                "orders": 1,
            },
            {
                "started_at": at(0, 13, 10) + 1,
                "ended_at": at(0, 13, 10) + 1,
                "touchpoints": 1,
                "channels": ["chat"],
                "campaign": "",
                "orders": 0,
            },
        ],
        customer={"sessions": 2},
    ),
    Scenario(
        "touchpoints that are not of the customer's own doing make no session, nor bridge two",
        [
            touch("web.page_viewed", NOON),
            touch("email.delivered", at(0, 12, 20)),
            touch("survey.invited", at(0, 12, 25)),
            touch("purchase.shipped", at(0, 12, 26)),
            touch("in_person.event_invited", at(0, 12, 27)),
            touch("employee.answered", at(0, 12, 28)),
            touch("web.page_viewed", at(0, 12, 40)),
        ],
        sessions=[{"started_at": NOON, "touchpoints": 1}, {"started_at": at(0, 12, 40)}],
    ),
    Scenario(
        "a late touchpoint joins two sessions",
        [
            touch("web.page_viewed", NOON),
            touch("web.page_viewed", at(0, 12, 50)),
            touch("web.page_viewed", at(0, 12, 25)),
        ],
        sessions=[{"started_at": NOON, "ended_at": at(0, 12, 50), "touchpoints": 3}],
    ),
]

JOURNEYS = [
    Scenario(
        "consider, evaluate, purchase, enjoy, bond",
        [
            touch("web.page_viewed", at(0)),
            touch("web.prices_viewed", at(1)),
            order(2),
            touch("purchase.delivered", at(4)),
            order(5),
        ],
        visits=[
            {"entered_at": at(0), "stage": "consider", "cycle": "buy", "left_at": at(1)},
            {"entered_at": at(1), "stage": "evaluate", "cycle": "buy", "previous": "consider"},
            {"entered_at": at(2, 12), "stage": "purchase", "left_at": at(4)},
            {"entered_at": at(4), "stage": "enjoy", "cycle": "own", "backward": False},
            {
                "entered_at": at(5, 12),
                "stage": "bond",
                "cycle": "advocate",
                "previous": "enjoy",
                "backward": False,
                "left_at": None,
            },
        ],
        customer={"stage": "bond", "stage_since": at(5, 12), "lapses_at": at(185, 12)},
        levels={
            ("customers", "stage", "consider"): [(0, 1), (1, -1)],
            ("customers", "stage", "evaluate"): [(1, 1), (2, -1)],
            ("customers", "stage", "purchase"): [(2, 1), (4, -1)],
            ("customers", "stage", "enjoy"): [(4, 1), (5, -1)],
            ("customers", "stage", "bond"): [(5, 1), (185, -1)],
            ("customers", "stage", "lapsed"): [(185, 1)],
        },
    ),
    Scenario(
        "a customer without evidence has no stage and does not lapse",
        [touch("email.sent", at(0)), touch("email.sent", at(300))],
        visits=[],
        customer={"stage": "", "stage_since": None, "lapses_at": None},
        levels={("customers", "stage", "lapsed"): []},
    ),
    Scenario(
        "backward from bond to evaluate is not possible, from enjoy it is",
        [
            order(0),
            call(1),
            touch("web.demo_requested", at(2)),
            touch("web.page_viewed", at(3)),
        ],
        visits=[
            {"stage": "purchase", "previous": "", "backward": False},
            {"stage": "enjoy", "backward": False},
            {"stage": "evaluate", "previous": "enjoy", "backward": True, "left_at": None},
        ],
    ),
    Scenario(
        "two looks at products since the stage was entered lead to evaluate",
        [
            touch("web.product_viewed", at(0)),
            touch("web.page_viewed", at(1)),
            touch("web.searched", at(2)),
            touch("web.product_viewed", at(3)),
        ],
        visits=[
            {"entered_at": at(0), "stage": "consider"},
            {"entered_at": at(3), "stage": "evaluate"},
        ],
    ),
    Scenario(
        "looks before the stage was entered do not count for it",
        [
            order(0),
            touch("web.product_viewed", at(1)),
            call(2),
            touch("web.product_viewed", at(3)),
        ],
        visits=[{"stage": "purchase"}, {"stage": "enjoy", "left_at": None}],
    ),
    Scenario(
        "advocates by recommendation, review and mention, each at its least",
        [
            answer(0, "nps", 8),
            answer(1, "nps", 9),
        ],
        visits=[{"entered_at": at(1, 12), "stage": "advocate", "previous": ""}],
    ),
    Scenario(
        "a review of 4 makes an advocate, one below does not",
        [
            touch("social.reviewed", at(0), rating=3.5),
            touch("social.posted", at(1), sentiment=0.04),
            touch("social.reviewed", at(2), rating=4.0),
        ],
        visits=[
            {"entered_at": at(1), "stage": "consider"},
            {"entered_at": at(2), "stage": "advocate", "cycle": "advocate"},
        ],
    ),
    Scenario(
        "more than 180 days of silence find the customer lapsed",
        [
            touch("web.prices_viewed", at(0)),
            touch("email.sent", at(180)),
            touch("email.sent", at(360) + 1),
            touch("web.page_viewed", at(400)),
        ],
        visits=[
            {"entered_at": at(0), "stage": "evaluate", "left_at": at(360)},
            {
                "entered_at": at(360),
                "stage": "lapsed",
                "cycle": "lapsed",
                "previous": "evaluate",
                "backward": False,
                "left_at": at(400),
            },
            {"entered_at": at(400), "stage": "consider", "previous": "lapsed", "backward": False},
        ],
        levels={
            ("customers", "stage", "evaluate"): [(0, 1), (360, -1)],
            ("customers", "stage", "lapsed"): [(360, 1), (400, -1), (580, 1)],
            ("customers", "stage", "consider"): [(400, 1), (580, -1)],
        },
    ),
    Scenario(
        "a contact of a lapsed customer has the stage lapsed",
        [touch("web.prices_viewed", at(0)), touch("email.replied", at(200))],
        members={"contact": [[("channel", "email"), ("stage", "lapsed")]]},
        customer={"stage": "lapsed", "stage_since": at(180), "lapses_at": None},
        levels={("customers", "stage", "lapsed"): [(180, 1)]},
    ),
    Scenario(
        "a late touchpoint in the silence takes the lapse back",
        [
            touch("web.prices_viewed", at(0)),
            touch("email.sent", at(200)),
            touch("email.sent", at(100)),
        ],
        visits=[{"entered_at": at(0), "stage": "evaluate", "left_at": None}],
    ),
    Scenario(
        "stages of one day leave the last one",
        [touch("web.page_viewed", at(0, 1)), touch("web.prices_viewed", at(0, 2))],
        levels={
            ("customers", "stage", "consider"): [],
            ("customers", "stage", "evaluate"): [(0, 1), (180, -1)],
        },
    ),
]

PATHS = [
    Scenario(
        "touches in a row with the same channel and campaign are one",
        [
            touch("web.page_viewed", at(0), campaign="spring"),
            touch("web.searched", at(1), campaign="spring"),
            touch("survey.answered", at(1, 1)),
            touch("email.sent", at(1, 2)),
            touch("web.searched", at(2), campaign="spring"),
            touch("web.searched", at(3)),
            touch("email.clicked", at(4), campaign="spring"),
            order(5, order_id="a", value=7.5),
            touch("chat.started", at(6)),
            order(7, order_id="b"),
        ],
        paths=[
            {
                "ordered_at": at(5, 12),
                "order_id": "a",
                "value_e4": 75_000,
                "channels": ["web", "web", "email"],
                "campaigns": ["spring", "", "spring"],
                "touched_at": [at(0), at(3), at(4)],
            },
            {"ordered_at": at(7, 12), "channels": ["chat"], "touched_at": [at(6)]},
        ],
    ),
    Scenario(
        "touches of 30 days to the millisecond count, older ones do not",
        [
            touch("web.page_viewed", at(0, 12) - 1),
            touch("chat.started", at(0, 12)),
            order(30),
            order(31),
        ],
        paths=[
            {"ordered_at": at(30, 12), "channels": ["chat"], "touched_at": [NOON]},
            {"ordered_at": at(31, 12), "channels": [], "touched_at": []},
        ],
    ),
    Scenario(
        "the last 20 touches are kept",
        [
            *(touch("web.page_viewed", at(0, 0, n), campaign=f"c{n}") for n in range(25)),
            order(1),
        ],
        paths=[{"campaigns": [f"c{n}" for n in range(5, 25)]}],
    ),
]

SUMS = [
    Scenario(
        "advocacy and consent",
        [
            touch("web.referred", at(0), consent={"analytics": True, "marketing": True}),
            touch("social.shared", at(1), consent={"marketing": False}),
            touch("in_person.event_attended", at(2)),
            touch("in_person.event_registered", at(3)),
            touch("in_person.event_invited", at(4)),
        ],
        measured={
            "share": [(at(1), 1)],
            "event_attended": [(at(2), 1)],
            "event_registered": [(at(3), 1)],
            "event_invited": [(at(4), 1)],
        },
        customer={
            "advocacy": {"referrals": 1, "shares": 1, "events": 1},
            "consent": {"analytics": True, "marketing": False},
        },
    ),
    Scenario(
        "of answers and consents at one moment the higher one and yes are the last",
        [
            touch("survey.answered", NOON, event_id="a", question="csat", score=5.0),
            touch("survey.answered", NOON, event_id="b", question="csat", score=2.0),
            touch("chat.started", NOON, consent={"marketing": True}),
            touch("web.page_viewed", NOON, consent={"marketing": False}),
        ],
        customer={"last_csat": 5.0, "answer_sums": {"csat": 7.0}, "consent": {"marketing": True}},
    ),
    Scenario(
        "answers are added up in thousandths",
        [answer(day, "csat", 9, **scale(1, 10)) for day in range(3)],
        customer={"last_csat": 4.556, "answer_sums": {"csat": 13.668}},
    ),
]

SCENARIOS = [
    *ORDER_AND_DUPLICATES,
    *MEMBERS,
    *ANSWERS,
    *TEXTS,
    *CALLS,
    *ISSUES,
    *ORDERS,
    *LEVELS,
    *SESSIONS,
    *JOURNEYS,
    *PATHS,
    *SUMS,
]
