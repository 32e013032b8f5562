"""The people of the journeys: who they are, and how each channel comes to know them.

A person belongs to one CRM id at most, and no two people share an identifier, so stitching must
never join two CRM ids.
"""

from dataclasses import dataclass
from random import Random

from touchstream.streams.demo.diary import Identifier, identifier

FIRST_NAMES = ("Anna", "Ben", "Carla", "David", "Elena", "Frank", "Grace", "Hugo", "Iris", "Jonas")
LAST_NAMES = ("Miller", "Novak", "Olsen", "Perez", "Quinn", "Rossi", "Smith", "Tanaka", "Young")
MAIL_HOSTS = ("example.com", "example.net", "example.org")
PLATFORMS = ("mastodon", "instagram", "x")
PHONE_SPELLINGS = (
    "({area}) 555-{line}",
    "{area}-555-{line}",
    "{area}.555.{line}",
    "1-{area}-555-{line}",
    "+1 {area} 555 {line}",
    "+1{area}555{line}",
)
"""All of one number, which is +1{area}555{line}; 555-0100 to 555-0199 belong to nobody."""
AREAS = tuple(str(area) for area in range(220, 270))
LINES = 100


@dataclass(frozen=True)
class Person:
    """One person; cookies are those of the first and of the second device."""

    name: str
    crm_id: str | None
    mailbox: str
    cookies: tuple[str, ...]
    phone: tuple[str, str] | None = None
    handle: str | None = None
    platform: str = PLATFORMS[0]
    logs_in: bool = True
    """False: visits stay anonymous for ever."""
    ties_phone: bool = True
    """False: nobody ever learns whose phone number it is."""

    def crm(self) -> Identifier:
        """The shop's own customer number."""
        assert self.crm_id is not None
        return identifier("crm_id", self.crm_id, verified=True)

    def email(self, rng: Random, *, verified: bool = False) -> Identifier:
        """The e-mail address, in one of several spellings."""
        spelled = rng.choice((self.mailbox, self.mailbox.lower(), f" {self.mailbox.upper()}"))
        return identifier("email", spelled, verified=verified)

    def number(self, rng: Random) -> Identifier:
        """The phone number, in one of several spellings."""
        assert self.phone is not None
        area, line = self.phone
        return identifier("phone", rng.choice(PHONE_SPELLINGS).format(area=area, line=line))

    def screen_name(self, rng: Random) -> Identifier:
        """The handle on the person's platform, with or without @."""
        return identifier("handle", rng.choice(("@", "")) + str(self.handle))

    def cookie(self, device: int) -> Identifier:
        """The cookie of a device."""
        return identifier("anonymous_id", self.cookies[device % len(self.cookies)])


def customer(crm_id: str, number: int, rng: Random) -> Person:
    """A customer of the shop; `number` is unique among the people that have a phone."""
    first, last = rng.choice(FIRST_NAMES), rng.choice(LAST_NAMES)
    has_handle = rng.random() < 0.25
    return Person(
        name=crm_id,
        crm_id=crm_id,
        mailbox=f"{first}.{last}.{crm_id}@{rng.choice(MAIL_HOSTS)}",
        cookies=tuple(cookie(rng) for _ in range(1 + (rng.random() < 0.4))),
        phone=phone(number) if rng.random() < 0.6 else None,
        handle=f"{first}_{last}_{crm_id}" if has_handle else None,
        platform=rng.choice(PLATFORMS),
        logs_in=rng.random() < 0.94,
        ties_phone=rng.random() < 0.75,
    )


def visitor(number: int, rng: Random) -> Person:
    """Somebody who looks around and never says who they are."""
    return Person(f"visitor-{number:05}", None, "", (cookie(rng),), logs_in=False)


def cookie(rng: Random) -> str:
    """A new cookie."""
    return f"{rng.getrandbits(96):024x}"


def phone(number: int) -> tuple[str, str]:
    """Area code and line of the n-th fictitious American phone number."""
    area = AREAS[number // LINES % len(AREAS)]
    return area, f"{100 + number % LINES:04}"
