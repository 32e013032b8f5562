"""The command `touchstream erase`: forget a customer everywhere, prove it, or let it come back."""

import importlib
from typing import Annotated, Any

import typer
from clickhouse_connect.driver.client import Client
from rich.table import Table

from touchstream.streams.cli.errors import one_line_errors
from touchstream.streams.cli.identity import AGENTS, WHO
from touchstream.streams.cli.identity_words import Note, Operator, needed_operator, not_taken
from touchstream.streams.cli.printing import say
from touchstream.streams.cli.queries import opened, show
from touchstream.streams.cli.waiting import Deadline
from touchstream.streams.erasure.run import Erasure, Residue, Traces
from touchstream.streams.erasure.store import Subject
from touchstream.streams.errors import ConfigurationError
from touchstream.streams.identity_store import IdentityStore
from touchstream.streams.operations_log import publish_operation
from touchstream.streams.settings import Settings, load_settings

ERASURE = "touchstream.agents.erasure_commands"
EXIT_LEFT = 1
Who = Annotated[list[str] | None, typer.Argument(metavar="WHO...", help=WHO)]


def erase_command(
    who: Who = None,
    verify: Annotated[
        bool, typer.Option("--verify", help="Only count what is left; without WHO, of all erased.")
    ] = False,
    back: Annotated[
        bool, typer.Option("--back", help="Let an erased identity be seen again from now on.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    note: Note = "",
    operator: Operator = "",
    wait: Annotated[float, typer.Option(min=1, help="Seconds to wait for the workers.")] = 60.0,
) -> None:
    """Erase a customer from every store, and never take again what it did before.

    Workers take it out of their state and of every figure; then its rows, messages,
    alerts and dead letters are deleted, and what is left is counted. Records that
    carry its identifiers are left out from then on, also when topics are read again.

    Examples:

      touchstream erase email:ann@example.com --note "request 17"

      touchstream erase --verify email:ann@example.com

      touchstream erase --back email:ann@example.com
    """
    left: list[Residue] = []
    with one_line_errors():
        settings = load_settings()
        with opened(settings) as client:
            desk = Desk(settings, client)
            if verify:
                left = desk.verify(who or [])
            elif not who:
                raise ConfigurationError("say who is to be erased: kind:value, token or customer")
            elif back:
                desk.let_back(who, needed_operator(operator), note)
            else:
                found = desk.erase(who, needed_operator(operator), note, wait, ask=not yes)
                left = [each for each in found if not each.expires]
    if left:
        raise typer.Exit(EXIT_LEFT)


class Desk:
    """Takes requests of one run of the command."""

    def __init__(self, settings: Settings, client: Client) -> None:
        self._settings = settings
        self._store = IdentityStore(client)
        self._erasure = Erasure(settings, client)
        self._agents: Any = importlib.import_module(ERASURE)
        self._token_of = importlib.import_module(AGENTS).token_of(self._store, settings)

    def erase(
        self, who: list[str], operator: str, note: str, wait: float, *, ask: bool
    ) -> list[Residue]:
        """Erase the customers of these identities; returns what is left."""
        tokens = self._customers_of(who)
        if ask:
            typer.confirm(f"Erase these {len(tokens)} identities for good?", abort=True)
        subject = self._erasure.store.subject(tokens)
        operation = self._agents.erasure_operation(tokens, operator=operator, note=note)
        number = publish_operation(self._settings, operation)
        say(f"operation {number}: {len(tokens)} identities are to be erased")
        if not Deadline(wait).reached(lambda: self._are_gone(tokens, number)):
            raise not_taken(number)
        subject = subject.erased_by(number)
        traces = self._traces(tokens, who)
        for problem in self._erasure.erase(subject, traces):
            say(f"not deleted now, but with the retention of the topic: {problem}")
        return _report(self._erasure, subject, traces)

    def verify(self, who: list[str]) -> list[Residue]:
        """Count what is left of these identities, or of all that were erased."""
        erased = {token for token, mark in self._store.all_marks() if mark == "erased"}
        tokens = {self._token(name) for name in who} or erased
        for token in sorted(tokens - erased):
            say(f"{token} was never erased")
        if not tokens:
            say("nobody was erased")
            return []
        subject = self._erasure.store.subject(tokens).erased_by(self._number(tokens))
        return _report(self._erasure, subject, self._traces(tokens, who))

    def let_back(self, who: list[str], operator: str, note: str) -> None:
        """Let identities be seen again; nothing of before comes back."""
        tokens = {self._token(name) for name in who}
        erased = {token for token, mark in self._store.all_marks() if mark == "erased"}
        if strangers := tokens - erased:
            raise ConfigurationError(f"not erased: {', '.join(sorted(strangers))}")
        arguments = {"operator": operator, "note": note, "back": True}
        number = publish_operation(
            self._settings, self._agents.erasure_operation(tokens, **arguments)
        )
        say(f"operation {number}: touchpoints from now on are taken again")

    def _customers_of(self, who: list[str]) -> set[str]:
        """All identities of the customers that are named; also of one that was never seen."""
        tokens = set()
        for name in who:
            customer = self._store.customer_of(self._token(name))
            members = self._store.members(customer) if customer else []
            show(Table(title=name, title_justify="left"), ("kind", "identity"), members)
            tokens |= {token for _, token in members} or {self._token(name)}
        return tokens

    def _token(self, name: str) -> str:
        kind, colon, value = name.partition(":")
        if colon:
            return str(self._token_of(kind, value))
        token = name.removeprefix("c")
        if len(token) != 32 or set(token) - set("0123456789abcdef"):
            raise ConfigurationError(f"{name} is no kind:value, no token and no customer id")
        return token

    def _are_gone(self, tokens: set[str], number: int) -> bool:
        return all(self._store.marked_at(token) >= number for token in tokens)

    def _number(self, tokens: set[str]) -> int:
        return min(self._store.marked_at(token) for token in tokens)

    def _traces(self, tokens: set[str], who: list[str]) -> Traces:
        texts: set[str] = set()
        for name in who:
            kind, colon, value = name.partition(":")
            if colon:
                texts |= self._agents.texts_of(self._store, self._settings, kind, value)
        traces: Traces = self._agents.traces(self._store, self._settings, tokens, texts)
        return traces


def _report(erasure: Erasure, subject: Subject, traces: Traces) -> list[Residue]:
    """Print what every store still has, and return what that is."""
    found = [*erasure.residue(subject, traces)]
    show(Table(), ("store", "left", "note"), [each[:3] for each in found])
    left = [each for each in found if each.left]
    number = sum(each.left for each in left)
    say("nothing is left" if not left else f"{number} rows or records are left")
    return left
