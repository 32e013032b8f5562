"""Plain recomputation of sessions and of the sums of a customer."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from touchstream.agents.recount.answers import QUESTIONS, customer_answer
from touchstream.agents.recount.facts import Fact
from touchstream.agents.recount.journey import Journey
from touchstream.streams.catalogue import Catalogue

ADVOCACY = {
    "web.referred": "referrals",
    "social.reviewed": "reviews",
    "social.shared": "shares",
    "in_person.event_attended": "events",
}
"""Touchpoints of advocates, and what they are counted as."""


def session_rows(facts: Iterable[Fact], journey: Journey) -> dict[int, dict[str, Any]]:
    """Rows of `SESSIONS` by their start."""
    sessions: list[list[Fact]] = []
    for fact in facts:
        if not fact.own_doing:
            continue
        last = sessions[-1][-1].occurred_at if sessions else None
        if last is None or fact.occurred_at - last > journey.session_gap_ms:
            sessions.append([])
        sessions[-1].append(fact)
    return {session[0].occurred_at: _session(session) for session in sessions}


def sums_of(facts: Sequence[Fact], catalogue: Catalogue) -> dict[str, Any]:
    """Columns of `CUSTOMERS` that are sums, first and last things of all touchpoints."""
    first, last = facts[0], facts[-1]
    contacts = [fact for fact in facts if fact.kind in catalogue.measures["contact"].on]
    orders = [fact for fact in facts if fact.is_order]
    returned = [fact for fact in facts if fact.kind == "purchase.returned"]
    sentiments = [fact.sentiment for fact in facts if fact.sentiment is not None]
    return {
        "account_id": _latest(fact.account_id for fact in facts),
        "segment": _latest(fact.segment for fact in facts),
        "first_touch_at": first.occurred_at,
        "first_touch_channel": first.channel,
        "first_touch_campaign": first.campaign,
        "last_touch_at": last.occurred_at,
        "last_touch_channel": last.channel,
        "last_touch_campaign": last.campaign,
        "touchpoints": len(facts),
        "touchpoints_by_channel": dict(Counter(fact.channel for fact in facts)),
        "contacts": len(contacts),
        "contacts_by_channel": dict(Counter(fact.channel for fact in contacts)),
        "orders": len(orders),
        "revenue_e4": sum(fact.value_e4 or 0 for fact in orders),
        "first_order_at": orders[0].occurred_at if orders else None,
        "last_order_at": orders[-1].occurred_at if orders else None,
        "order_days": len({fact.day for fact in orders}),
        "returns": len(returned),
        "returned_e4": sum(fact.value_e4 or 0 for fact in returned),
        "texts_scored": len(sentiments),
        "sentiment_sum": float(sum(sentiments)),
        "advocacy": dict(Counter(ADVOCACY[each.kind] for each in facts if each.kind in ADVOCACY)),
        "consent": _consent(facts),
        **_answers(facts),
    }


def _answers(facts: Iterable[Fact]) -> dict[str, Any]:
    """Answers by question, in thousandths until they are added up."""
    answers: dict[str, list[tuple[int, int]]] = {}
    for fact in facts:
        answer = customer_answer(fact)
        if answer is not None:
            each = fact.occurred_at, round(1000 * answer)
            answers.setdefault(fact.question, []).append(each)
    latest = {question: max(given)[1] / 1000 for question, given in answers.items()}
    return {
        "answers": {question: len(given) for question, given in answers.items()},
        "answer_sums": {
            question: sum(value for _, value in given) / 1000 for question, given in answers.items()
        },
        **{f"last_{question}": latest.get(question) for question in QUESTIONS},
    }


def _consent(facts: Iterable[Fact]) -> dict[str, bool]:
    """The latest word on each purpose; of those at one moment yes wins over no."""
    words: dict[str, tuple[int, bool]] = {}
    for fact in facts:
        for purpose, given in (fact.consent or {}).items():
            word = fact.occurred_at, given
            words[purpose] = max(word, words.get(purpose, word))
    return {purpose: given for purpose, (_, given) in words.items()}


def _session(facts: Sequence[Fact]) -> dict[str, Any]:
    campaigns = [fact.campaign for fact in facts if fact.campaign]
    return {
        "started_at": facts[0].occurred_at,
        "ended_at": facts[-1].occurred_at,
        "touchpoints": len(facts),
        "channels": list(dict.fromkeys(fact.channel for fact in facts)),
        "campaign": campaigns[0] if campaigns else "",
        "orders": sum(fact.is_order for fact in facts),
    }


def _latest(given: Iterable[str]) -> str:
    """The latest text that is not empty."""
    return ([""] + [each for each in given if each])[-1]
