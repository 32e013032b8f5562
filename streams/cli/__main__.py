"""`python -m touchstream.streams.cli`: the same as the `touchstream` command."""

from touchstream.streams.cli import main

main()
