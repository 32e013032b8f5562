"""Where Faust finds Kafka: every server of the setting, through our transport."""

import pytest
from faust.transport.drivers.aiokafka import server_list
from faust.utils.urls import urllist

from touchstream.streams.app import broker_urls


@pytest.mark.parametrize(
    ("setting", "servers"),
    [
        ("kafka:29092", ["kafka:29092"]),
        ("one:9092,two:9093, three:9094", ["one:9092", "two:9093", "three:9094"]),
        ("[::1]:9092,127.0.0.1:9092", ["[::1]:9092", "127.0.0.1:9092"]),
    ],
)
def test_every_bootstrap_server_reaches_aiokafka(setting: str, servers: list[str]) -> None:
    urls = urllist(broker_urls(setting))
    assert {url.scheme for url in urls} == {"chunk"}
    assert server_list(urls, 9092) == servers
