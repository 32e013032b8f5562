"""Web journeys: pages seen by a cookie, and the moment when the cookie gets a name."""

from random import Random
from typing import Any

from touchstream.streams.demo.diary import DAY_MS, Diary, Identifier
from touchstream.streams.demo.people import Person

SHOP = "https://shop.example"
DEVICES = ("desktop", "mobile")
CAMPAIGNS = (None, None, None, "new-year-sale", "spring-releases", "friends")
GENRES = ("jazz", "rock", "folk", "opera", "blues", "soul", "punk", "tango")
ALBUMS = 900
STEPS = ("page_viewed", "product_viewed", "product_viewed", "searched", "review_read")


def browse(diary: Diary, rng: Random, person: Person, at: int, *, device: int, pages: int) -> int:
    """One anonymous session of some pages; returns the time of its end."""
    session = {
        "session_id": f"s-{rng.getrandbits(40):010x}",
        "campaign": rng.choice(CAMPAIGNS),
        "device_type": DEVICES[device % len(DEVICES)],
        "consent": {"analytics": True},
    }
    for page in range(pages):
        action = "page_viewed" if page == 0 else rng.choice(STEPS)
        dwell_ms = rng.randint(4_000, 120_000)
        fields = {**session, **_content(action, rng), "dwell_ms": dwell_ms}
        diary.write("web", person.name, at, action, [person.cookie(device)], **fields)
        at += dwell_ms
    return at


def _content(action: str, rng: Random) -> dict[str, Any]:
    if action == "searched":
        term = rng.choice(GENRES)
        return {"page_url": f"{SHOP}/search?q={term}", "search_term": term}
    if action == "page_viewed":
        genre = rng.choice(GENRES)
        return {"page_url": f"{SHOP}/genres/{genre}", "page_title": f"All {genre} albums"}
    album = f"cd-{rng.randrange(ALBUMS):03}"
    return {"page_url": f"{SHOP}/albums/{album}", "product_id": album}


def fill_cart(diary: Diary, rng: Random, person: Person, at: int, *, device: int) -> None:
    """The last steps before an order."""
    album = f"cd-{rng.randrange(ALBUMS):03}"
    cookie = [person.cookie(device)]
    diary.write("web", person.name, at, "added_to_cart", cookie, product_id=album)
    checkout = {"page_url": f"{SHOP}/checkout"}
    diary.write("web", person.name, at + 45_000, "checkout_started", cookie, **checkout)


def log_in(diary: Diary, rng: Random, person: Person, at: int, *, device: int) -> None:
    """The cookie turns out to be a customer: by CRM id, by e-mail address, or by both."""
    names: list[list[Identifier]] = [
        [person.crm()],
        [person.email(rng, verified=True)],
        [person.crm(), person.email(rng, verified=True)],
    ]
    known_by = rng.choice(names)
    where = {"page_url": f"{SHOP}/login", "device_type": DEVICES[device % len(DEVICES)]}
    diary.write("web", person.name, at, "logged_in", [person.cookie(device), *known_by], **where)


def ask_for_a_call(diary: Diary, rng: Random, person: Person, at: int) -> None:
    """A form with e-mail address and phone number: whose number it is becomes known."""
    names = [person.email(rng), person.number(rng)]
    where = {"page_url": f"{SHOP}/call-me"}
    diary.write("web", person.name, at, "form_submitted", names, **where)


def wander(diary: Diary, rng: Random, person: Person, begin: int, end: int) -> None:
    """Visits of somebody who never says who they are."""
    for _ in range(rng.randint(1, 2)):
        at = rng.randrange(begin, end - DAY_MS)
        browse(diary, rng, person, at, device=0, pages=rng.randint(1, 3))
