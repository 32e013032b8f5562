"""Seeded journeys around a part of the CDNOW customers: a pure function of the random generator.

A journey starts with anonymous visits before the first order; a login, a mail, a form or a direct
message later tells that cookies, e-mail addresses, phone numbers and handles are one person.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from random import Random

from touchstream.streams.demo.cdnow import Purchase
from touchstream.streams.demo.contacts import call, chat, come_by, confirm_order
from touchstream.streams.demo.diary import BEGIN_MS, DAY_MS, END_MS, HOUR_MS, Diary, Occurrence
from touchstream.streams.demo.people import Person, customer, visitor
from touchstream.streams.demo.visits import ask_for_a_call, browse, fill_cart, log_in, wander
from touchstream.streams.demo.voice import post, survey, write_directly

PEOPLE = 1_500
VISITORS = 1_500
ORDERS_WITH_JOURNEYS = 12
"""The latest of each person; the most eager one placed more than two hundred orders."""
MAX_PEOPLE = 4_000
"""As many phone numbers are set aside for journeys."""


def journeys(
    rng: Random,
    purchases: Iterable[Purchase],
    *,
    people: int = PEOPLE,
    visitors: int = VISITORS,
) -> list[Occurrence]:
    """Touchpoints of some of the customers and of visitors, in event time order."""
    orders = defaultdict(list)
    for purchase in purchases:
        orders[purchase.customer].append(purchase)
    diary = Diary()
    for number, crm_id in enumerate(_chosen(rng, orders, min(people, MAX_PEOPLE))):
        ordered = sorted(orders[crm_id], key=lambda order: order.occurred_at)
        live_through(diary, rng, customer(crm_id, number, rng), ordered)
    for number in range(visitors):
        wander(diary, rng, visitor(number, rng), BEGIN_MS, END_MS)
    return diary.tear_out()


def _chosen(rng: Random, orders: Mapping[str, Sequence[Purchase]], people: int) -> list[str]:
    """Half of them any customers, half of those who still ordered in the last 30 days."""
    customers = sorted(orders)
    active = [c for c in customers if orders[c][-1].occurred_at >= END_MS - 30 * DAY_MS]
    loyal = rng.sample(active, min(people // 2, len(active)))
    others = sorted(set(customers).difference(loyal))
    return loyal + rng.sample(others, min(people - len(loyal), len(others)))


def live_through(diary: Diary, rng: Random, person: Person, orders: Sequence[Purchase]) -> None:
    """One person's journey from the first visit on."""
    first = orders[0]
    _discover(diary, rng, person, first.occurred_at)
    _become_known(diary, rng, person, first)
    for order in orders[-ORDERS_WITH_JOURNEYS:]:
        _order(diary, rng, person, order)
    if person.handle:
        _speak_up(diary, rng, person, first.occurred_at)


def _discover(diary: Diary, rng: Random, person: Person, ordered_at: int) -> None:
    earliest = max(BEGIN_MS, ordered_at - 21 * DAY_MS)
    for _ in range(rng.randint(1, 2)):
        at = rng.randrange(earliest, ordered_at - HOUR_MS)
        browse(diary, rng, person, at, device=0, pages=rng.randint(1, 3))
    if rng.random() < 0.05:
        chat(diary, rng, person, rng.randrange(earliest, ordered_at - HOUR_MS))
    fill_cart(diary, rng, person, ordered_at - 90_000, device=0)


def _become_known(diary: Diary, rng: Random, person: Person, first: Purchase) -> None:
    """The order is confirmed by mail; most people log in one day, on every device."""
    confirm_order(diary, rng, person, first.occurred_at + 30_000, f"cdnow-{first.number:05}")
    if not person.logs_in:
        return
    for device in range(len(person.cookies)):
        at = first.occurred_at + rng.randint(HOUR_MS, 40 * DAY_MS)
        ended_at = browse(diary, rng, person, at, device=device, pages=rng.randint(1, 2))
        log_in(diary, rng, person, ended_at, device=device)


def _order(diary: Diary, rng: Random, person: Person, order: Purchase) -> None:
    device = rng.randrange(2)
    if rng.random() < 0.4:
        at = max(BEGIN_MS, order.occurred_at - rng.randint(HOUR_MS, 5 * DAY_MS))
        browse(diary, rng, person, at, device=device, pages=rng.randint(1, 3))
    if rng.random() < 0.2:
        _seek_help(diary, rng, person, order.occurred_at + rng.randint(HOUR_MS, 12 * DAY_MS))
    if rng.random() < 0.25:
        at = order.occurred_at + rng.randint(10 * DAY_MS, 20 * DAY_MS)
        survey(diary, rng, person, at, question="nps", about={})


def _seek_help(diary: Diary, rng: Random, person: Person, at: int) -> None:
    """A contact, often followed by a question about it."""
    channel, contact = _way_to_ask(rng, person)
    event_id, ended_at = contact(diary, rng, person, at)
    if channel == "phone" and person.ties_phone:
        ask_for_a_call(diary, rng, person, ended_at + rng.randint(HOUR_MS, 30 * DAY_MS))
    question = rng.choice(("csat", "csat", "ces", None))
    if question:
        about = {"about_channel": channel, "about_event_id": event_id}
        survey(diary, rng, person, ended_at + HOUR_MS, question=question, about=about)


Contact = Callable[[Diary, Random, Person, int], tuple[str, int]]


def _way_to_ask(rng: Random, person: Person) -> tuple[str, Contact]:
    if rng.random() < 0.06:
        return "in_person", come_by
    if person.phone and rng.random() < 0.6:
        return "phone", call
    return "chat", chat


def _speak_up(diary: Diary, rng: Random, person: Person, since: int) -> None:
    """Some posts; half of those who post write a direct message one day."""
    for _ in range(rng.randint(1, 3)):
        post(diary, rng, person, since + rng.randint(HOUR_MS, 120 * DAY_MS))
    if rng.random() < 0.5:
        write_directly(diary, rng, person, since + rng.randint(DAY_MS, 150 * DAY_MS))
