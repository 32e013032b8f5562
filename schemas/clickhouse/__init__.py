"""Numbered, forward-only ClickHouse migrations."""
