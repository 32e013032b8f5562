"""Contracts, no behaviour: Avro schemas, the metric catalogue and the ClickHouse migrations."""
