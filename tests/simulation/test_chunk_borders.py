"""What leaves a stage never depends on where a chunk ended.

The same log, cut at random places: the same messages, byte for byte with their positions, the same
dead letters and alerts, the same state, and tables that show the same rows. The log is one that a
whole pipeline left: it has links, merges, splits, moves, words, marks, rules and poison of all
kinds; identities have more events than are kept one by one, and dimensions more members than panes.
"""

from collections.abc import Callable, Iterator
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from logs import KEYS, Left, places, recorded, replay

from touchstream.agents import activity
from touchstream.agents.activity import Customer
from touchstream.agents.customer_messages import decode_customer
from touchstream.agents.identity_messages import decode_identity
from touchstream.agents.panes import OTHER
from touchstream.streams.customer_tables import PANES
from touchstream.streams.positions import POSITION_BYTES
from touchstream.streams.records import Place
from touchstream.streams.tables import DEAD_LETTERS
from touchstream.streams.topics import CUSTOMER, IDENTITY, OPERATIONS, TOUCHPOINTS

SEEDS = range(12)
KINDS = {"Absorb", "Alone", "Assign", "Decline", "Grant", "Link"}
KINDS |= {"Marked", "Meet", "Report", "Ruled", "Said", "Touch"}
STAGES = {
    "ingest": TOUCHPOINTS,
    "operate": (OPERATIONS,),
    "stitch": (IDENTITY,),
    "profile": (CUSTOMER,),
}


@pytest.fixture(autouse=True, scope="module")
def few_events_are_kept_one_by_one() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(activity, "RECENT_EVENTS", 6)
        yield


@cache
def one_by_one(seed: int, place: Place) -> Left:
    """What must leave: each record is a chunk of its own."""
    pipeline = recorded(seed)
    return replay(pipeline, place, [1] * len(pipeline.log.partitions[place]))


sizes = st.lists(st.one_of(st.integers(1, 5), st.integers(1, 200)), max_size=60)


@pytest.mark.parametrize("stage", STAGES)
@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_the_same_leaves_a_stage_however_its_log_is_cut(stage: str, data: st.DataObject) -> None:
    seed = data.draw(st.sampled_from(SEEDS))
    pipeline = recorded(seed)
    place = data.draw(st.sampled_from([p for p in places(pipeline) if p[0] in STAGES[stage]]))
    left, want = replay(pipeline, place, data.draw(sizes)), one_by_one(seed, place)
    assert left.messages == want.messages
    assert left.values == want.values
    assert left.rows == want.rows


def test_the_logs_have_what_the_claim_is_about() -> None:
    """Else the test above would say less than it seems to."""
    lefts = [(place[0], one_by_one(n, place)) for n in SEEDS for place in places(recorded(n))]
    assert {name for _, left in lefts for name in left.rows} == {table.name for table in KEYS}
    rows = [
        (topic, name, row)
        for topic, left in lefts
        for name, rows in left.rows.items()
        for row in rows.values()
    ]
    assert OTHER in {row["member"] for _, name, row in rows if name == PANES.name}
    rejected = {topic for topic, name, row in rows if name == DEAD_LETTERS.name}
    assert {"touchpoints.web", OPERATIONS, IDENTITY, CUSTOMER} <= rejected
    assert messages_to(IDENTITY, lefts, decode_identity) >= KINDS
    assert messages_to(CUSTOMER, lefts, decode_customer) == {"Touched", "Move", "Arrive"}
    customers = [
        each for topic, left in lefts for each in left.values.values() if isinstance(each, Customer)
    ]
    assert any(each.folded_keys for customer in customers for each in customer.identities.values())


def messages_to(
    topic: str, lefts: list[tuple[str, Left]], decode: Callable[[bytes], object]
) -> set[str]:
    """Kinds of messages to a topic."""
    sent = [
        one
        for _, left in lefts
        for to, some in left.messages.items()
        for one in some
        if to[0] == topic
    ]
    return {type(decode(value[POSITION_BYTES:])).__name__ for _, value, _ in sent if value}
