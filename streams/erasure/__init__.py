"""Erasing a customer: from the operator's word to the proof that no store has anything left."""
