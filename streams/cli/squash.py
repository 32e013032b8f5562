"""The command `touchstream squash`: what workers do at a slow pace, at once and to the end."""

from touchstream.streams.cli.errors import one_line_errors
from touchstream.streams.cli.printing import say
from touchstream.streams.settings import load_settings
from touchstream.streams.squash import Squash


def squash_command() -> None:
    """Put the customers of identities that moved into their touchpoints, batch by batch.

    No figure changes; queries have less to join. Workers do the same every squash_seconds, and
    several may do it at once. An identity is taken squash_grace_seconds after it moved, and its
    override goes as long after that, in a later run.

    Example: touchstream squash
    """
    with one_line_errors():
        squash = Squash(load_settings())
        try:
            settled = dropped = 0
            is_over = False
            while not is_over:
                done = squash.batch()
                is_over = done.is_over
                settled, dropped = settled + done.settled, dropped + done.dropped
        finally:
            squash.close()
    say(f"identities put into their touchpoints: {settled:,}")
    say(f"overrides of earlier runs dropped: {dropped:,}")
