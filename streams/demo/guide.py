"""What to do next: how to query a demo that stays up, and where to go from one that ended."""

from urllib.parse import urlsplit

from rich.console import Console

from touchstream.streams.settings import PREFIX, Settings

QUERY = "SELECT metric, value, n FROM metrics WHERE window = '5m' AND dimension = 'all'"


def how_to_query(console: Console, settings: Settings) -> None:
    """Addresses and examples, as they can be copied."""
    for line in query_lines(settings):
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def query_lines(settings: Settings) -> list[str]:
    """The lines of `how_to_query`."""
    url = urlsplit(settings.clickhouse_url)
    database, user = settings.clickhouse_database, settings.clickhouse_user
    client = f"host='{url.hostname}', port={url.port}, database='{database}'"
    return [
        "",
        "The stack stays up until Ctrl-C; touchpoints of now keep arriving, so 5m and 1h move.",
        "",
        f"  BI tools     ClickHouse over HTTP: host {url.hostname}, port {url.port}, "
        f"database {database}, user {user}, no password",
        f"  curl         curl '{settings.clickhouse_url}/?database={database}' "
        f'--data-binary "{QUERY} FORMAT PrettyCompact"',
        f'  Python       clickhouse_connect.get_client({client}).query_df("{QUERY}")',
        f"  touchstream  export {PREFIX}CLICKHOUSE_URL={settings.clickhouse_url}; "
        "touchstream metrics --window 5m",
        f"  publish      export {PREFIX}KAFKA_BOOTSTRAP_SERVERS="
        f"{settings.kafka_bootstrap_servers}; touchstream publish --channel web FILE",
    ]


def what_next(console: Console) -> None:
    """Three commands to go on with."""
    lines = (
        "",
        "Next:",
        "  touchstream demo --keep   the same, but it stays up for your BI tool",
        "  touchstream up            an empty stack for your own touchpoints",
        "  README.md                 first query, publishing, production",
    )
    for line in lines:
        console.print(line, highlight=False, markup=False)
