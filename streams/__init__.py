"""How records move: settings, topics, codecs, transport, state, positions, writers, commands."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from touchstream.streams.publisher import Publisher

__all__ = ["Publisher"]


def __getattr__(name: str) -> Any:
    """Import the publisher when it is asked for; the package itself stays cheap to import."""
    if name == "Publisher":
        from touchstream.streams.publisher import Publisher

        return Publisher
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
