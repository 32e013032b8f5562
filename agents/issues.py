"""Issues: contacts of one customer on one topic, without many days between them.

First-contact resolution is provisional until no further contact can belong to the issue; every
further contact takes the former judgement back.
"""

import msgspec

from touchstream.agents.customer_messages import Event
from touchstream.agents.journey_rules import JourneyRules
from touchstream.agents.ledger import Ledger, Members
from touchstream.streams.customer_tables import ISSUES

MOST_ISSUES = 16
"""Issues of a customer that a further contact may belong to."""


class Issue(msgspec.Struct, array_like=True):
    """One issue; times in ms."""

    opened_at: int
    members: Members
    last_at: int
    first_resolved: bool
    """Whether it counts as solved by its first contact, as far as is known."""
    contacts: int = 1
    channels: list[str] = []
    solved: tuple[int, Members, int] | None = None
    """The last contact, when it solved the issue: its time, members and event key."""
    reopened: int = 0


class Issues(msgspec.Struct, array_like=True):
    """A customer's latest issues by topic, and how many older ones there were."""

    by_topic: dict[str, Issue] = {}
    older_open: int = 0
    older_solved: int = 0

    @property
    def open(self) -> int:
        """Number of issues that are not solved."""
        return self.older_open + sum(each.solved is None for each in self.by_topic.values())

    @property
    def solved(self) -> int:
        """Number of issues that are solved."""
        return self.older_solved + sum(each.solved is not None for each in self.by_topic.values())

    def see(
        self, key: int, event: Event, members: Members, rules: JourneyRules, ledger: Ledger
    ) -> None:
        """Take a touchpoint."""
        contact, at = event.contact, event.occurred_at
        if contact is None or contact.abandoned:
            return
        issue = self.by_topic.get(contact.topic)
        again = issue is not None and at - issue.last_at <= rules.repeat_contact
        ledger.measure("repeated", at, int(again), members)
        if issue is None or not again:
            if issue is not None:
                self._retire(contact.topic)
            issue = _open(event, members, rules, ledger)
            self.by_topic[contact.topic] = issue
            if len(self.by_topic) > MOST_ISSUES:
                self._retire(min(self.by_topic, key=self._age))
        else:
            _go_on(issue, event, rules, ledger)
        issue.solved = None
        if contact.resolved:
            issue.solved = (at, members, key)
            ledger.measure("reopened", at, 0, members)
        _write(issue, contact.topic, ledger)

    def show(self, ledger: Ledger) -> None:
        """Write the issues that a further contact may belong to."""
        for topic, issue in self.by_topic.items():
            _write(issue, topic, ledger)

    def _age(self, topic: str) -> tuple[int, str]:
        return self.by_topic[topic].last_at, topic

    def _retire(self, topic: str) -> None:
        solved = self.by_topic.pop(topic).solved is not None
        self.older_solved += solved
        self.older_open += not solved


def _open(event: Event, members: Members, rules: JourneyRules, ledger: Ledger) -> Issue:
    assert event.contact is not None
    at, resolved = event.occurred_at, event.contact.resolved is not False
    ledger.measure("first_contact_resolved", at, int(resolved), members)
    final = at + rules.repeat_contact
    ledger.measure("first_contact_resolved_finally", final, int(resolved), members)
    ledger.measure("switched", at, 0, members)
    ledger.measure("issue_contacts", at, 1, members)
    return Issue(at, members, at, resolved, channels=[event.channel])


def _go_on(issue: Issue, event: Event, rules: JourneyRules, ledger: Ledger) -> None:
    """A further contact."""
    at, members = issue.opened_at, issue.members
    if issue.first_resolved:
        issue.first_resolved = False
        ledger.change("first_contact_resolved", at, 1, 0, members)
        ledger.change("first_contact_resolved_finally", at + rules.repeat_contact, 1, 0, members)
    ledger.change("issue_contacts", at, issue.contacts, issue.contacts + 1, members)
    issue.contacts += 1
    if event.channel not in issue.channels:
        if len(issue.channels) == 1:
            ledger.change("switched", at, 0, 1, members)
        issue.channels = sorted([*issue.channels, event.channel])
    issue.last_at = event.occurred_at
    if issue.solved is not None:
        solved_at, theirs, key = issue.solved
        ledger.change("reopened", solved_at, 0, 1, theirs)
        ledger.reopened[key] = solved_at
        issue.reopened += 1


def _write(issue: Issue, topic: str, ledger: Ledger) -> None:
    row = (
        issue.opened_at,
        topic,
        issue.last_at,
        issue.contacts,
        tuple(issue.channels),
        issue.solved is not None,
        issue.reopened,
    )
    ledger.write(ISSUES, issue.opened_at, topic, row)
