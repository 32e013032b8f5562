"""Commands by which an operator says who is who: identity deny, allow, share, unshare.

What is said goes to the log of operations; workers do the rest.
"""

import importlib
from typing import Annotated

import typer
from rich.table import Table

from touchstream.streams.cli.errors import one_line_errors
from touchstream.streams.cli.identity import AGENTS, WHO, described, named
from touchstream.streams.cli.printing import say
from touchstream.streams.cli.queries import opened, show
from touchstream.streams.cli.waiting import Deadline
from touchstream.streams.errors import ConfigurationError, TransientError
from touchstream.streams.identity_store import Found, IdentityStore
from touchstream.streams.operations_log import publish_operation
from touchstream.streams.settings import load_settings

One = Annotated[str, typer.Argument(metavar="A", help=WHO)]
Other = Annotated[str, typer.Argument(metavar="B", help=WHO)]
Note = Annotated[str, typer.Option(help="Why, for the audit.")]
Operator = Annotated[str, typer.Option(envvar="USER", help="Who says so, for the audit.")]
Wait = Annotated[float, typer.Option(min=0, help="Seconds to wait until workers have done it.")]


def identity_deny_command(
    one: One, other: Other, note: Note = "", operator: Operator = "", wait: Wait = 10.0
) -> None:
    """Say that two identities are not one customer.

    If they are in one customer it is split: its links are taken again from the
    strongest on, and the link that would bring the two together is refused. Take
    it back with `touchstream identity allow`.

    Examples:

      touchstream identity deny email:ann@example.com phone:+14155550100 --note "two people"
    """
    _say_word(one, other, allow=False, note=note, operator=operator, wait=wait)


def identity_allow_command(
    one: One, other: Other, note: Note = "", operator: Operator = "", wait: Wait = 10.0
) -> None:
    """Say that two identities are one customer, whatever the rules say of links.

    It yields only to what operators denied, and to identities that are shared or
    erased. Take it back with `touchstream identity deny`.

    Examples:

      touchstream identity allow crm_id:4711 crm_id:815 --note "twice in the CRM"
    """
    _say_word(one, other, allow=True, note=note, operator=operator, wait=wait)


def identity_share_command(
    one: One, note: Note = "", operator: Operator = "", wait: Wait = 10.0
) -> None:
    """Say that an identity belongs to many, like a kiosk's phone: its links join no one.

    Examples:

      touchstream identity share phone:+14155550199 --note "kiosk in the lobby"
    """
    _say_mark(one, shared=True, note=note, operator=operator, wait=wait)


def identity_unshare_command(
    one: One, note: Note = "", operator: Operator = "", wait: Wait = 10.0
) -> None:
    """Take back that an identity belongs to many; rules may find that it does all the same.

    Examples:

      touchstream identity unshare phone:+14155550199
    """
    _say_mark(one, shared=False, note=note, operator=operator, wait=wait)


def needed_operator(operator: str) -> str:
    """Who says something; nobody may say it without a name."""
    if not operator.strip():
        raise ConfigurationError("nobody is named: say who you are with --operator")
    return operator.strip()


def _say_word(one: str, other: str, *, allow: bool, note: str, operator: str, wait: float) -> None:
    with one_line_errors():
        settings = load_settings()
        agents = importlib.import_module(AGENTS)
        who = needed_operator(operator)
        with opened(settings) as client:
            store = IdentityStore(client)
            ends = named(store, (one, other), agents.token_of(store, settings))
            tokens = [end.identity for end in ends]
            if tokens[0] == tokens[1]:
                raise ConfigurationError(f"{one} and {other} are the same identity")
            operation = agents.word_operation(*tokens, allow=allow, operator=who, note=note)
            number = publish_operation(settings, operation)
            names = " and ".join(map(described, ends))
            say(f"{names}: {'one customer' if allow else 'not one customer'}, operation {number}")
            if wait:
                _report(store, ends, number, Deadline(wait), allow=allow)


def _say_mark(one: str, *, shared: bool, note: str, operator: str, wait: float) -> None:
    with one_line_errors():
        settings = load_settings()
        agents = importlib.import_module(AGENTS)
        who = needed_operator(operator)
        with opened(settings) as client:
            store = IdentityStore(client)
            [end] = named(store, (one,), agents.token_of(store, settings))
            operation = agents.mark_operation(end.identity, shared=shared, operator=who, note=note)
            number = publish_operation(settings, operation)
            said = "belongs to many" if shared else "belongs to many only if rules say so"
            say(f"{described(end)}: {said}, operation {number}")
            if wait and not Deadline(wait).reached(lambda: store.marked_at(end.identity) >= number):
                raise not_taken(number)


def _report(
    store: IdentityStore, ends: list[Found], number: int, deadline: Deadline, *, allow: bool
) -> None:
    """Wait until workers have taken the word, and until it has come true; say who is who."""
    tokens = [end.identity for end in ends]

    def taken() -> bool:
        pair = [row for row in store.words(tokens) if set(row[:2]) == set(tokens)]
        return any(row[2] >= number for row in pair)

    def came_true() -> bool:
        return (len({row[3] for row in store.identities(tokens)}) == 1) == allow

    if not deadline.reached(taken):
        raise not_taken(number)
    done = deadline.reached(came_true)
    rows = [(kind, token, customer) for token, kind, _, customer in store.identities(tokens)]
    show(Table(), ("kind", "identity", "customer now"), rows)
    if not done:
        say(f"not so yet: `touchstream identity explain {' '.join(tokens)}` says why")


def not_taken(number: int) -> TransientError:
    """The error that says that no worker has answered in time."""
    return TransientError(
        f"operation {number} is in the log, but no worker has carried it out yet; it is carried out"
        " once workers run, do not say it again"
    )
