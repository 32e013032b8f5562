"""The demo's own audit: what ClickHouse answers, next to what it should."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from touchstream.streams.demo import cdnow
from touchstream.streams.demo.expected import Expected
from touchstream.streams.demo.groups import Known
from touchstream.streams.demo.measured import MEASURES, METRICS, SCALE, Cell, Sums
from touchstream.streams.demo.progress import Patience

END = "1998-07-01 00:00:00"
"""The moment of the rolling metrics that are shown and checked."""
RETRY_SECONDS = 0.5

BY_CHANNEL = "SELECT channel, count() FROM touchpoints GROUP BY channel"
CUSTOMERS = """
SELECT count(), countIf(orders > 0), sum(orders), sum(revenue), countIf(orders >= 2) FROM customers
"""
CUSTOMER_OF = "SELECT channel, event_id, customer_id FROM touchpoints"
PANES = """
SELECT metric, member, sum(n), sum(total) FROM metric_panes FINAL
WHERE resolution = {resolution:String} AND dimension = 'channel'
    AND metric IN {measures:Array(String)}
GROUP BY metric, member
"""
LAST_MONTH = f"""
SELECT metric, member, n, numerator FROM metrics_at(as_of = '{END}')
WHERE window = '30d' AND dimension = 'channel' AND n > 0 AND metric IN {{metrics:Array(String)}}
"""
EVER = f"""
SELECT metric, value FROM metrics_at(as_of = '{END}') WHERE window = 'all' AND dimension = 'all'
"""
RETENTION = """
SELECT numerator, denominator FROM metrics_at(as_of = {as_of:DateTime64(3)})
WHERE metric = 'retention' AND window = '90d' AND dimension = 'all'
"""


@dataclass(frozen=True)
class Check:
    """One figure: expected and found."""

    name: str
    expected: str
    got: str

    @property
    def ok(self) -> bool:
        """Whether they are the same."""
        return self.expected == self.got


def settled_checks(client: Any, expected: Expected, patience: Patience) -> list[Check]:
    """All checks; asked again for a while when some fail, since rows of tables arrive in turn."""
    deadline = patience.clock() + patience.quiet_seconds
    while True:
        checks = check_everything(client, expected)
        if all(check.ok for check in checks) or patience.clock() >= deadline:
            return checks
        patience.pause(RETRY_SECONDS)


def check_everything(client: Any, expected: Expected) -> list[Check]:
    """Every check once."""
    return [
        *_check_touchpoints(client, expected),
        *_check_customers(client, expected),
        *_check_metrics(client, expected),
        *_check_loyalty(client),
    ]


def _check_touchpoints(client: Any, expected: Expected) -> list[Check]:
    by_channel = dict(client.query(BY_CHANNEL).result_rows)
    dead_letters = _number(client, "SELECT count() FROM dead_letters")
    return [
        _figure("touchpoints", expected.touchpoints, sum(by_channel.values())),
        *_table("touchpoints by channel", expected.by_channel, by_channel),
        _figure("dead letters", 0, dead_letters),
    ]


def _check_customers(client: Any, expected: Expected) -> list[Check]:
    customers, buyers, orders, revenue, repeat = client.query(CUSTOMERS).result_rows[0]
    identities = _number(client, "SELECT count() FROM identities")
    return [
        _figure("customers before stitching", expected.groups.identifiers, identities),
        _figure("customers after stitching", expected.groups.count, customers),
        _figure("touchpoints at a wrong customer", 0, misplaced(client, expected)),
        _figure("CDNOW customers", cdnow.CUSTOMERS, buyers),
        _figure("CDNOW orders", cdnow.ORDERS, orders),
        Check("CDNOW revenue", f"{cdnow.REVENUE:,.2f}", f"{revenue:,.2f}"),
        _figure("CDNOW customers with 2 orders or more", cdnow.REPEAT_CUSTOMERS, repeat),
    ]


def misplaced(client: Any, expected: Expected) -> int:
    """Touchpoints whose customer is not, one to one, the one that they should belong to."""
    pairs: Counter[tuple[Known | None, str]] = Counter()
    for channel, event_id, customer_id in client.query(CUSTOMER_OF).result_rows:
        pairs[expected.customer_of((channel, event_id)), customer_id] += 1
    right = 0
    known_taken: set[Known | None] = {None}
    id_taken: set[str] = set()
    for (known, customer_id), number in pairs.most_common():
        if known not in known_taken and customer_id not in id_taken:
            right += number
        known_taken.add(known)
        id_taken.add(customer_id)
    return pairs.total() - right


def _check_metrics(client: Any, expected: Expected) -> list[Check]:
    whole = _written(expected.whole_period)
    checks = []
    for resolution in ("day", "minute"):
        wanted = {"resolution": resolution, "measures": [MEASURES.get(m, m) for m in METRICS]}
        rows = client.query(PANES, parameters=wanted).result_rows
        names = {MEASURES.get(metric, metric): metric for metric in METRICS}
        panes = {
            (names[measure], member): _cell(n, total) for measure, member, n, total in rows if n
        }
        checks += _table(f"metrics of all time from {resolution} panes", whole, panes)
    rows = client.query(LAST_MONTH, parameters={"metrics": [*METRICS]}).result_rows
    rolling = {
        (metric, member): _cell(n, round(numerator * SCALE.get(metric, 1)))
        for metric, member, n, numerator in rows
    }
    return checks + _table(
        "rolling metrics, 30 days before July 1998", _written(expected.last_month), rolling
    )


def _check_loyalty(client: Any) -> list[Check]:
    """Published figures of CDNOW; see `cdnow.py`."""
    ever = dict(client.query(EVER).result_rows)
    kept = {
        str(cdnow.START + (number + 1) * cdnow.WINDOW): f"{round(retained)} of {round(earlier)}"
        for number in range(len(cdnow.ACTIVE))
        for retained, earlier in client.query(
            RETENTION, parameters={"as_of": cdnow.START + (number + 2) * cdnow.WINDOW}
        ).result_rows
    }
    pairs = zip(kept, zip(cdnow.KEPT, cdnow.ACTIVE, strict=True), strict=False)
    return [
        _share("repeat purchase rate", cdnow.REPEAT_RATE, ever["repeat_purchase_rate"]),
        _share("the same by day", cdnow.REPEAT_RATE_BY_DAY, ever["repeat_purchase_rate_by_day"]),
        Check("mean days between orders", f"{cdnow.MEAN_GAP:.6f}", f"{ever['purchase_gap']:.6f}"),
        *(
            _near(f"days between orders, p{each}", days, ever[f"purchase_gap_p{each}"])
            for each, days in cdnow.GAPS.items()
        ),
        *_table("buyers kept for 90 days more", {at: f"{k} of {a}" for at, (k, a) in pairs}, kept),
    ]


def _share(name: str, expected: float, percent: float) -> Check:
    return Check(name, f"{expected:.6f}", f"{percent / 100:.6f}")


def _near(name: str, expected: int, got: float) -> Check:
    """A quantile, which is right to 1%."""
    right = abs(got - expected) <= expected / 100
    return Check(name, str(expected), str(expected) if right else f"{got:g}")


def _written(sums: Sums) -> dict[Cell, str]:
    return {cell: _cell(n, sums.sums[cell]) for cell, n in sums.counts.items()}


def _cell(n: int, total: int) -> str:
    return f"n {n:,} sum {total:,}"


def _number(client: Any, query: str) -> int:
    return int(client.query(query).result_rows[0][0])


def _figure(name: str, expected: int, got: int) -> Check:
    return Check(name, f"{expected:,}", f"{got:,}")


def _table(name: str, expected: Mapping[Any, Any], got: Mapping[Any, Any]) -> list[Check]:
    """One line that counts the equal figures, and one for each that differs."""
    cells = sorted({*expected, *got})
    differences = [cell for cell in cells if expected.get(cell) != got.get(cell)]
    summary = Check(name, f"{len(cells)} right", f"{len(cells) - len(differences)} right")
    details = (
        Check(f"  {_label(cell)}", str(expected.get(cell, "none")), str(got.get(cell, "none")))
        for cell in differences
    )
    return [summary, *details]


def _label(cell: str | Cell) -> str:
    return cell if isinstance(cell, str) else f"{cell[0]} of {cell[1]}"
