"""`docs/metrics.md` from the catalogue: `python -m touchstream.streams.metric_docs > FILE`."""

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence

from touchstream.streams.catalogue import ALL, FAMILIES, Catalogue, Metric, load_catalogue
from touchstream.streams.definitions import dimensions_of, span_of

SOURCES: Mapping[str, str] = {
    "csat": "customary: mean and top-two-box of a five-point scale",
    "ces": "Customer Effort Score 2.0: Dixon, Freeman, Toman, *Stop Trying to Delight Your"
    " Customers*, Harvard Business Review 2010; CEB 2013: statement *made it easy*, seven points",
    "trust": "customary: mean and top-two-box of a five-point scale",
    "response_rate": "AAPOR, *Standard Definitions*: completed by invited",
    "nps": "Reichheld, *The One Number You Need to Grow*, Harvard Business Review 2003",
    "promoters": "see nps",
    "passives": "see nps",
    "detractors": "see nps",
    "sentiment": "Hutto, Gilbert, *VADER*, ICWSM 2014: compound score, neutral within 0.05",
    "net_sentiment": "see sentiment",
    "share_of_mentions": "customary: share of voice",
    "retention": "Farris et al., *Marketing Metrics*: customers kept by customers at the beginning",
    "churn": "see retention: what it leaves of 100%",
    "repeat_purchase": "Farris et al., *Marketing Metrics*; by day as in Fader, Hardie, Lee,"
    " *Counting Your Customers the Easy Way*, Marketing Science 2005 (BG/NBD), where purchases of"
    " one day are one",
    "purchase_frequency": "Farris et al., *Marketing Metrics*: orders by buyer",
    "purchase_gap": "times between purchases as in Fader, Hardie, Lee, Marketing Science 2005"
    " (BG/NBD)",
    "churn_risk_share": "nearest-rank percentile of the customer's own gaps; see definitions.md",
    "service_level": "Call Centre Helper, *How to Calculate Service Level*: the variants differ in"
    " what happens to abandoned calls",
    "abandonment": "customary in contact centres (Erlang A: abandoned by offered)",
    "short_abandonment": "customary in contact centres",
    "average_speed_of_answer": "customary in contact centres (ASA)",
    "average_handle_time": "customary in contact centres (AHT): talk, hold and wrap-up",
    "handle_time": "see average_handle_time",
    "first_contact_resolution": "SQM Group: no further contact on the same issue within 7 days",
    "repeat_contact_rate": "see first_contact_resolution",
    "enps": "Reichheld's question asked of employees; see nps",
    "engagement": "customary: share of favourable answers over all items, fewer than five hidden",
}
"""Where a definition comes from, by the longest beginning of a metric's name."""
EXAMPLES: Mapping[str, int] = {
    **{"csat": 820, "trust": 780, "ces": 4080, "ces.n": 1000, "nps": 108, "nps.n": 324},
    **{"answered": 1000, "answered_in_time": 860, "abandoned": 60, "abandoned_in_time": 20},
    **{"order": 300, "revenue": 15_000, "retained_buyers": 130, "repeat_buyers": 80},
    **{"purchase_gap": 6000, "issue_contacts": 260, "first_response": 9000},
    **{"handle_time": 64_000, "answer_time": 3000, "abandoned_soon": 15},
}
"""Sums of the examples, where others than 60 by 200 say more."""
FINEST = {"minute": "a minute", "hour": "an hour"}
WORDS = {"up": "up", "down": "down", "none": "neither"}
HEAD = """# Metrics

<!-- Made from `schemas/metrics.toml` by `make docs`: change that, not this. -->

Every metric is a formula over measures, and a measure adds up. [Definitions](definitions.md) says
exactly when a measure is taken. Read the values with `touchstream metrics` or from the view
`metrics`.

- `n` is the number of measurements: that of the measure, or the denominator of a ratio.
- A ratio has no value when its denominator is 0.
- `low` and `high` bound the 95% interval: a normal one where squares are kept (a mean, a share of 0
  and 1, an index), Wilson's for other shares. Totals, levels and quantiles have none.
- A quantile comes from a histogram and is right to 1%: DDSketch (Masson, Rim, Lee, VLDB 2019).
- `{a}` is the sum of measure a over the window, `{a.n}` the number of its measurements and
  `{a.all}` its number of customers of all time.
"""

WINDOWS_RULE = """A window ends at the next full minute. By a dimension whose finest panes are of an
hour it ends at the next full hour, and there are only windows of a day or longer. A metric with a
number of customers in the window is of whole UTC days, today included: all its measures are. A
number of customers as it stands has the window `now`.
"""
MEMBERS_RULE = """`all` is everybody. What belongs to more members of a dimension than `at most`, in
one partition of customers, is counted together as `(other)`.
"""


def render_catalogue(catalogue: Catalogue) -> str:
    """Render the page."""
    parts = [HEAD, *_places(catalogue)]
    for family in FAMILIES:
        metrics = [each for each in catalogue.metrics.values() if each.family == family]
        if metrics:
            parts.append(f"## {family.capitalize()}\n")
            parts += [_metric(catalogue, each) for each in metrics]
    parts.append("## Measures\n")
    parts.append(_measures(catalogue))
    return "\n".join(parts)


def _places(catalogue: Catalogue) -> Iterator[str]:
    yield "## Windows\n"
    lengths = [(name, _length(seconds)) for name, seconds in catalogue.windows.items()]
    yield _table(("window", "length"), [*lengths, (ALL, "since the first measurement")])
    yield WINDOWS_RULE
    yield "## Dimensions\n"
    rows = [
        (name, each.help, FINEST[each.finest], f"{each.members:,}")
        for name, each in catalogue.dimensions.items()
    ]
    yield _table(("dimension", "members", "finest pane", "at most"), rows)
    yield MEMBERS_RULE


def _metric(catalogue: Catalogue, metric: Metric) -> str:
    windows = {"rolling": "all", "days": "whole UTC days", "now": "`now`"}
    dimensions = dimensions_of(catalogue, metric)
    whole = dimensions == [ALL, *catalogue.dimensions]
    facts = [
        ("Formula", _formula(metric)),
        ("Unit", metric.unit),
        ("Better", WORDS[metric.direction]),
        ("Windows", windows[span_of(catalogue, metric)]),
        ("Dimensions", "all" if whole else ", ".join(dimensions)),
        ("Interval", _interval(catalogue, metric)),
        ("Hidden", f"with fewer than {metric.below} measurements" if metric.below else ""),
        ("Example", _example(metric)),
        ("Source", _source(metric.name)),
    ]
    lines = [f"- {name}: {text}" for name, text in facts if text]
    return "\n".join([f"### {metric.name}\n", f"{metric.help}.\n", *lines, ""])


def _formula(metric: Metric) -> str:
    if metric.quantile is not None:
        (name,) = metric.numerator
        return f"{metric.quantile:g} quantile of `{name}`"
    factor = f"{metric.factor} * " if metric.factor != 1 else ""
    top, bottom = _sum(metric.numerator), _sum(metric.denominator)
    if not bottom:
        return f"`{factor}{top}`"
    return f"`{factor}{_grouped(metric.numerator, top)} / {_grouped(metric.denominator, bottom)}`"


def _sum(terms: Mapping[str, int]) -> str:
    parts = []
    for term, weight in terms.items():
        size = "" if abs(weight) == 1 else f"{abs(weight)} * "
        parts.append(f"{'-' if weight < 0 else '+'} {size}{{{term}}}")
    return " ".join(parts).removeprefix("+ ")


def _grouped(terms: Mapping[str, int], text: str) -> str:
    return f"({text})" if len(terms) > 1 else text


def _interval(catalogue: Catalogue, metric: Metric) -> str:
    if catalogue.squared(metric):
        return "normal"
    whole = all(catalogue.measures[term.partition(".")[0]].scale == 1 for term in metric.numerator)
    share = metric.unit == "percent" and metric.factor == 100 and metric.denominator and whole
    return "Wilson" if share else "none"


def _example(metric: Metric) -> str:
    """Work the formula for made-up sums."""
    if metric.quantile is not None:
        rank = int(metric.quantile * 9)
        return f"of 1, 2, ..., 10 {metric.unit}: {rank + 1}"
    known: dict[str, int] = {}
    for number, term in enumerate(metric.denominator, 1):
        known[term] = EXAMPLES.get(term, 200 // number)
    for number, term in enumerate(metric.numerator, 1):
        known.setdefault(term, EXAMPLES.get(term, 60 // number))
    top, bottom = (
        sum(weight * known[term] for term, weight in terms.items())
        for terms in (metric.numerator, metric.denominator)
    )
    value = metric.factor * (top / bottom if bottom else top)
    sums = ", ".join(f"{{{term}}} = {number}" for term, number in known.items())
    return f"{sums}: {round(value, 2):g} {metric.unit}"


def _source(name: str) -> str:
    fitting = [start for start in SOURCES if name.startswith(start)]
    return SOURCES[max(fitting, key=len)] if fitting else "a count"


def _measures(catalogue: Catalogue) -> str:
    rows = []
    for name, each in catalogue.measures.items():
        kept = [word for word in ("squares", "histogram") if getattr(each, word)]
        kept += [f"level: {each.level}"] if each.level else []
        kept += [f"in 1/{each.scale:,}"] if each.scale != 1 else []
        on = ", ".join(f"`{place}`" for place in each.on)
        rows.append((f"`{name}`", each.help, on, ", ".join(kept)))
    return _table(("measure", "what is measured", "taken of", "kept"), rows)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |".replace("|  |", "| |") for line in lines) + "\n"


def _length(seconds: int) -> str:
    for unit, size in (("day", 86_400), ("hour", 3600), ("minute", 60)):
        if seconds % size == 0:
            number = seconds // size
            return f"{number} {unit}{'s' if number > 1 else ''}"
    return f"{seconds} seconds"


if __name__ == "__main__":
    sys.stdout.write(render_catalogue(load_catalogue()))
