"""The command `touchstream export`: all that is kept of a customer, as JSON."""

import importlib
import sys
from pathlib import Path
from typing import Annotated

import typer

from touchstream.streams.cli.erase import ERASURE
from touchstream.streams.cli.errors import one_line_errors
from touchstream.streams.cli.identity import AGENTS, WHO
from touchstream.streams.cli.printing import say
from touchstream.streams.cli.queries import opened
from touchstream.streams.erasure.run import is_of
from touchstream.streams.erasure.store import ErasureStore
from touchstream.streams.errors import ConfigurationError
from touchstream.streams.export import export, rows_of
from touchstream.streams.identity_store import IdentityStore
from touchstream.streams.settings import load_settings


def export_command(
    who: Annotated[str, typer.Argument(help=WHO)],
    output: Annotated[Path | None, typer.Option(help="File to write; without it, stdout.")] = None,
) -> None:
    """Write everything that is kept of a customer as one JSON document.

    Examples:

      touchstream export email:ann@example.com --output ann.json
    """
    with one_line_errors():
        settings = load_settings()
        agents, erasure = importlib.import_module(AGENTS), importlib.import_module(ERASURE)
        with opened(settings) as client:
            store = IdentityStore(client)
            found = store.find(who, agents.token_of(store, settings))
            tokens = [token for _, token in store.members(found.customer_id)]
            texts = erasure.texts_of(store, settings, *who.split(":", 1)) if ":" in who else set()
            letters = ErasureStore(settings, client).dead_letters()
            traces = erasure.traces(store, settings, tokens, texts)
            theirs = (each for each in letters if is_of(traces, each))
            pieces = export(rows_of(client), found.customer_id, tokens, theirs)
            if output is None:
                sys.stdout.writelines(pieces)
                return
            try:
                with output.open("w", encoding="utf-8") as file:
                    file.writelines(pieces)
            except OSError as error:
                raise ConfigurationError(f"cannot write {output}: {error.strerror}") from None
        say(f"{output}: all that is kept of {found.customer_id}, {len(tokens)} identities")
