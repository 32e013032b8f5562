"""Everything that follows from the final facts, computed plainly and by other code.

It knows `docs/definitions.md` and shares nothing with the agents that keep figures up to date, so
that each can prove the other wrong: in the property tests, and in `touchstream reconcile`.
"""
