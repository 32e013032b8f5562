"""The embedded default: a broker and a ClickHouse on loopback, for trying, developing and testing."""
