"""An endless trickle of touchpoints of now, so that rolling windows move while one looks."""

from collections.abc import Callable, Iterator
from random import Random

from touchstream.streams.demo.contacts import call, chat, confirm_order
from touchstream.streams.demo.diary import Diary, Identifier, Occurrence, identifier
from touchstream.streams.demo.journeys import MAX_PEOPLE
from touchstream.streams.demo.people import Person, customer
from touchstream.streams.demo.visits import browse, log_in
from touchstream.streams.demo.voice import post, survey

PEOPLE = 300
"""Customers besides those of the CDNOW log; their CRM ids begin with `live-`."""

Clock = Callable[[], float]
"""Seconds since 1970, like `time.time`."""


def trickle(rng: Random, clock: Clock) -> Iterator[Occurrence]:
    """Touchpoints of now for ever; each happens at the moment it is asked for."""
    people = [customer(f"live-{n:04}", MAX_PEOPLE + n, rng) for n in range(PEOPLE)]
    diary = Diary(end_ms=None)
    while True:
        act(diary, rng, rng.choice(people))
        for occurrence in diary.tear_out():
            yield _now(occurrence, clock)


def act(diary: Diary, rng: Random, person: Person) -> None:
    """Somebody does something: mostly looks around, sometimes orders or needs help."""
    deed = rng.choices(("browse", "order", "ask", "post"), weights=(5, 2, 3, 1))[0]
    if deed == "order":
        _order(diary, rng, person)
    elif deed == "ask":
        _ask(diary, rng, person)
    elif deed == "post" and person.handle:
        post(diary, rng, person, 0)
    else:
        browse(diary, rng, person, 0, device=rng.randrange(2), pages=rng.randint(1, 4))


def _order(diary: Diary, rng: Random, person: Person) -> None:
    log_in(diary, rng, person, 0, device=0)
    order_id = f"live-{rng.getrandbits(40):010x}"
    units = rng.randint(1, 4)
    bought = {"order_id": order_id, "value": round(14.99 * units, 2), "quantity": units}
    who: list[Identifier] = [identifier("crm_id", person.name)]
    diary.write("purchase", person.name, 1, "placed", who, **bought, currency="USD")
    confirm_order(diary, rng, person, 2, order_id)


def _ask(diary: Diary, rng: Random, person: Person) -> None:
    by_phone = person.phone is not None and rng.random() < 0.5
    event_id, ended_at = (call if by_phone else chat)(diary, rng, person, 0)
    about = {"about_channel": "phone" if by_phone else "chat", "about_event_id": event_id}
    question = rng.choice(("csat", "ces", "nps"))
    survey(diary, rng, person, ended_at, question=question, about=about)


def _now(occurrence: Occurrence, clock: Clock) -> Occurrence:
    touchpoint = {**occurrence.touchpoint, "occurred_at": int(clock() * 1000)}
    return occurrence._replace(touchpoint=touchpoint)
