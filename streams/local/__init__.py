"""The embedded default: broker and ClickHouse on loopback, to try, develop and test with."""
