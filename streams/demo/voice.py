"""What people say: survey answers by e-mail address, social posts by handle."""

from random import Random
from typing import Any

from touchstream.streams.demo.diary import HOUR_MS, Diary
from touchstream.streams.demo.people import Person

CSAT_ANSWERS = (1, 2, 3, 3, 4, 4, 4, 5, 5, 5)
CSAT_OF_TEN = (2, 4, 5, 6, 7, 8, 8, 9, 9, 10)
NPS_ANSWERS = (0, 3, 5, 6, 7, 7, 8, 8, 9, 9, 9, 10, 10)
CES_ANSWERS = (1, 2, 3, 4, 5, 5, 6, 6, 7, 7)
COMMENTS = (None, None, "Quick and friendly.", "It took too long.", "Thank you!")
POSTS = {
    "Lovely packing, arrived in two days.": 0.7,
    "Still waiting for my parcel...": -0.5,
    "Listening to the new album all day.": 0.6,
    "Their catalogue is huge.": 0.3,
}


def survey(
    diary: Diary, rng: Random, person: Person, at: int, *, question: str, about: dict[str, Any]
) -> None:
    """An invitation, and an answer of those who answer."""
    who = [person.email(rng)]
    invitation = {
        "survey_id": f"{question}-after-contact" if about else f"{question}-relation",
        "invitation_id": f"invitation-{rng.getrandbits(40):010x}",
        "question": question,
        **about,
    }
    diary.write("survey", person.name, at, "invited", who, **invitation)
    if rng.random() < 0.6:
        answer = {**invitation, **_answer(question, rng)}
        answered_at = at + rng.randint(60_000, 48 * HOUR_MS)
        diary.write("survey", person.name, answered_at, "answered", who, **answer)


def _answer(question: str, rng: Random) -> dict[str, Any]:
    comment = rng.choice(COMMENTS)
    if question == "nps":
        return _scored(0, 10, rng.choice(NPS_ANSWERS), comment)
    if question == "ces":
        return _scored(1, 7, rng.choice(CES_ANSWERS), comment)
    if rng.random() < 0.1:  # an older questionnaire; its answers are converted to 1 to 5
        return _scored(1, 10, rng.choice(CSAT_OF_TEN), comment)
    return _scored(1, 5, rng.choice(CSAT_ANSWERS), comment)


def _scored(low: int, high: int, score: int, comment: str | None) -> dict[str, Any]:
    scale = {"scale_min": float(low), "scale_max": float(high)}
    return {**scale, "score": float(score), "comment": comment}


def post(diary: Diary, rng: Random, person: Person, at: int) -> None:
    """A public post by handle."""
    text, sentiment = rng.choice([*POSTS.items()])
    action = rng.choice(("mentioned", "posted", "shared", "reviewed"))
    said = {"kind": "post", "text": text, "sentiment": sentiment, "language": "en"}
    who = [person.screen_name(rng)]
    place = {"platform": person.platform, "post_id": f"post-{rng.getrandbits(40):010x}"}
    diary.write("social", person.name, at, action, who, **place, **said)


def write_directly(diary: Diary, rng: Random, person: Person, at: int) -> None:
    """A direct message that gives the e-mail address: whose handle it is becomes known."""
    who = [person.screen_name(rng), person.email(rng)]
    said = {"platform": person.platform, "kind": "dm", "text": "Could you look at my order?"}
    diary.write("social", person.name, at, "messaged", who, **said)
