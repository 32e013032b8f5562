"""Plain recomputation of calls, chats and issues."""

from collections.abc import Iterable, Iterator
from typing import Any

from touchstream.agents.recount.facts import Measurement, Seen
from touchstream.agents.recount.journey import Journey
from touchstream.streams.catalogue import Catalogue

KNOWN_ISSUES = 16


class Issue:
    """Contacts on one topic without many days between them."""

    def __init__(self, contact: Seen) -> None:
        self.contacts = [contact]

    @property
    def topic(self) -> str:
        """What it is about."""
        return self.contacts[0].fact.topic

    @property
    def last_contact_at(self) -> int:
        """Time of its last contact."""
        return self.contacts[-1].fact.occurred_at

    @property
    def channels(self) -> list[str]:
        """Channels it was seen on, sorted."""
        return sorted({each.fact.channel for each in self.contacts})

    @property
    def solved(self) -> bool:
        """Whether its last contact solved it."""
        return self.contacts[-1].fact.resolved is True

    @property
    def resolved_at_first_contact(self) -> bool:
        """Whether one contact was enough."""
        return len(self.contacts) == 1 and self.contacts[0].fact.resolved is not False

    @property
    def reopened(self) -> int:
        """How often a contact solved it and another one came."""
        return sum(each.fact.resolved is True for each in self.contacts[:-1])


def call_measurements(lived: Iterable[Seen], catalogue: Catalogue) -> Iterator[Measurement]:
    """Measurements of calls and chats that ended."""
    for seen in lived:
        fact = seen.fact
        if fact.kind not in ("phone.ended", "chat.ended"):
            continue
        if fact.handle_ms is not None:
            yield seen.measured("handle_time", fact.handle_ms)
        if fact.kind == "chat.ended" and fact.wait_ms is not None:
            yield seen.measured("first_response", fact.wait_ms)
        if fact.kind == "chat.ended" or not fact.abandoned:
            yield seen.measured("transferred", int((fact.transfers or 0) >= 1))
        if fact.kind == "phone.ended":
            yield from _of_call(seen, catalogue)


def issues_of(lived: Iterable[Seen], catalogue: Catalogue, journey: Journey) -> list[Issue]:
    """Every issue of a customer, in the order they were opened."""
    issues: list[Issue] = []
    known: list[Issue] = []
    for seen in lived:
        if not _is_contact(seen, catalogue):
            continue
        known.sort(key=lambda each: (each.last_contact_at, each.topic))
        known = known[-KNOWN_ISSUES:]
        for issue in known:
            silence = seen.fact.occurred_at - issue.last_contact_at
            if issue.topic == seen.fact.topic and silence <= journey.repeat_ms:
                issue.contacts.append(seen)
                break
        else:
            issues.append(Issue(seen))
            known.append(issues[-1])
    return issues


def issue_measurements(issues: Iterable[Issue], journey: Journey) -> Iterator[Measurement]:
    """Measurements of issues, at the contacts they belong to."""
    for issue in issues:
        first = issue.contacts[0]
        resolved = int(issue.resolved_at_first_contact)
        yield first.measured("first_contact_resolved", resolved)
        final = first.measured("first_contact_resolved_finally", resolved)
        yield final._replace(at=final.at + journey.repeat_ms)
        yield first.measured("switched", int(len(issue.channels) > 1))
        yield first.measured("issue_contacts", len(issue.contacts))
        for contact in issue.contacts:
            yield contact.measured("repeated", int(contact is not first))
            if contact.fact.resolved is True:
                yield contact.measured("reopened", int(contact is not issue.contacts[-1]))


def issue_rows(issues: Iterable[Issue]) -> dict[tuple[int, str], dict[str, Any]]:
    """Rows of `ISSUES` by opening and topic."""
    return {
        (issue.contacts[0].fact.occurred_at, issue.topic): {
            "opened_at": issue.contacts[0].fact.occurred_at,
            "topic": issue.topic,
            "last_contact_at": issue.last_contact_at,
            "contacts": len(issue.contacts),
            "channels": issue.channels,
            "solved": issue.solved,
            "reopened": issue.reopened,
        }
        for issue in issues
    }


def _is_contact(seen: Seen, catalogue: Catalogue) -> bool:
    abandoned_call = seen.fact.kind == "phone.ended" and seen.fact.abandoned
    return seen.fact.kind in catalogue.measures["contact"].on and not abandoned_call


def _of_call(seen: Seen, catalogue: Catalogue) -> Iterator[Measurement]:
    wait_ms, abandoned = seen.fact.wait_ms, seen.fact.abandoned
    outcome = "abandoned" if abandoned else "answered"
    yield seen.measured(outcome)
    if wait_ms is None:
        return
    if wait_ms <= catalogue.answer_within_ms:
        yield seen.measured(f"{outcome}_in_time")
    if not abandoned:
        yield seen.measured("answer_time", wait_ms)
    elif wait_ms <= catalogue.short_abandon_ms:
        yield seen.measured("abandoned_soon")
