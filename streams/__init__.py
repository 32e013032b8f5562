"""How records move: settings, topics, codecs, transport, state, positions, writers, commands."""
