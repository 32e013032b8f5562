"""Service contacts: chats by e-mail address, calls by phone number, visits to the counter."""

from random import Random

from touchstream.streams.demo.diary import Diary
from touchstream.streams.demo.people import Person

TOPICS = {
    "delivery": "Where is my parcel?",
    "damaged": "The case arrived broken.",
    "billing": "I think I paid twice.",
    "advice": "Is the live album still in stock?",
    "return": "I would like to send it back.",
}
AGENTS = 24


def chat(diary: Diary, rng: Random, person: Person, at: int) -> tuple[str, int]:
    """A chat from its start to its end; returns the event id and the time of the end."""
    topic, question = rng.choice([*TOPICS.items()])
    about = {"conversation_id": f"chat-{rng.getrandbits(40):010x}", "queue": "web", "topic": topic}
    wait_ms, handle_ms = rng.randint(3_000, 90_000), rng.randint(60_000, 900_000)
    asked = {**about, "direction": "inbound", "author": "customer"}
    who = [person.email(rng)]
    diary.write("chat", person.name, at, "started", who, **asked)
    diary.write("chat", person.name, at + 2_000, "message", who, **asked, text=question)
    outcome = {
        "agent_id": _agent(rng),
        "wait_ms": wait_ms,
        "handle_ms": handle_ms,
        "transfers": int(rng.random() < 0.1),
        "resolved": rng.random() < 0.8,
    }
    ended_at = at + wait_ms + handle_ms
    return diary.write("chat", person.name, ended_at, "ended", who, **about, **outcome), ended_at


def call(diary: Diary, rng: Random, person: Person, at: int) -> tuple[str, int]:
    """A call, known by its number alone; returns the event id and the time of its end."""
    about = {
        "call_id": f"call-{rng.getrandbits(40):010x}",
        "direction": "inbound",
        "queue": rng.choice(("orders", "service")),
        "topic": rng.choice([*TOPICS]),
    }
    wait_ms = rng.randint(2_000, 180_000)
    who = [person.number(rng)]
    diary.write("phone", person.name, at, "offered", who, **about)
    if rng.random() < 0.1:
        hung_up = {"abandoned": True, "wait_ms": wait_ms}
        ended_at = at + wait_ms
        return diary.write("phone", person.name, ended_at, "ended", who, **about, **hung_up), (
            ended_at
        )
    return _talk(diary, rng, person, at + wait_ms, {**about, "wait_ms": wait_ms})


def _talk(
    diary: Diary, rng: Random, person: Person, at: int, about: dict[str, str | int]
) -> tuple[str, int]:
    about = {**about, "agent_id": _agent(rng)}
    who = [person.number(rng)]
    diary.write("phone", person.name, at, "answered", who, **about)
    talk_ms = rng.randint(40_000, 600_000)
    outcome = {
        "talk_ms": talk_ms,
        "hold_ms": rng.choice((0, 0, rng.randint(5_000, 120_000))),
        "wrap_up_ms": rng.randint(5_000, 60_000),
        "abandoned": False,
        "resolved": rng.random() < 0.75,
    }
    ended_at = at + talk_ms
    return diary.write("phone", person.name, ended_at, "ended", who, **about, **outcome), ended_at


def come_by(diary: Diary, rng: Random, person: Person, at: int) -> tuple[str, int]:
    """A visit to the counter, known by the e-mail address on the receipt."""
    visit = {
        "location_id": f"counter-{rng.randint(1, 4)}",
        "staff_id": _agent(rng),
        "wait_ms": rng.randint(0, 600_000),
        "purpose": rng.choice([*TOPICS]),
    }
    who = [person.email(rng)]
    return diary.write("in_person", person.name, at, "ended", who, **visit), at


def confirm_order(diary: Diary, rng: Random, person: Person, at: int, order_id: str) -> None:
    """The mail that confirms an order: it knows the CRM id and the e-mail address."""
    who = [person.crm(), person.email(rng)]
    mail = {"message_id": f"mail-{order_id}", "template": "order-confirmation"}
    diary.write("email", person.name, at, "delivered", who, **mail)
    if rng.random() < 0.5:
        opened_at = at + rng.randint(60_000, 7_200_000)
        diary.write("email", person.name, opened_at, "opened", [person.email(rng)], **mail)


def _agent(rng: Random) -> str:
    return f"agent-{rng.randrange(AGENTS):02}"
