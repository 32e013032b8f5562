"""Longer schedules of everything at once, by seed: touches, words, marks, rules, tight bounds."""

import random

import msgspec
import pytest
from identity_graph import Seen
from test_identity_graph import (
    CHANNELS,
    KINDS,
    Marked,
    Ruled,
    Said,
    check,
    judged_of,
    run,
    shuffled,
    token,
)

from touchstream.agents.evidence import Mark
from touchstream.agents.history import components_of
from touchstream.agents.judgement import Refused
from touchstream.agents.resolution import Word
from touchstream.agents.rules import Kind, Limit, Rules


def random_rules(rng: random.Random) -> Rules:
    def kind(priority: int) -> Kind:
        return Kind(
            priority,
            unique=rng.random() < 0.2,
            limit=rng.choice((None, None, Limit(2, 300), Limit(3))),
            verified_only=rng.random() < 0.15,
            channels=rng.choice((None, None, None, frozenset({"web", "chat"}))),
            max_links=rng.choice((3, 6, 50)),
        )

    kinds = {"crm_id": kind(9), "email": kind(7), "phone": kind(7), "device_id": kind(2)}
    return Rules(kinds, kind(5), rng.choice((4, 10, 200)), 1000, 50)


def random_touches(rng: random.Random, people: int, number: int) -> list[Seen]:
    found = []
    for n in range(number):
        kinds = rng.sample(KINDS, rng.choice((1, 2, 2, 3)))
        person = rng.randrange(people)
        identities = {token(kind, person): kind for kind in kinds}
        if rng.random() < 0.15:
            kind = rng.choice(KINDS)
            identities[token(kind, rng.randrange(people))] = kind
        ordered = sorted(identities.items(), key=lambda item: (KINDS.index(item[1]), item[0]))
        shown = [(kind, each, rng.random() < 0.7) for each, kind in ordered]
        found.append(Seen(shown, rng.choice(CHANNELS), f"e{n}", rng.randrange(1000)))
    return found


def random_words(rng: random.Random, people: int) -> list[Said]:
    found = []
    for number in range(1, 1 + rng.choice((0, 0, 1, 4))):
        one, other = (token(rng.choice(KINDS), rng.randrange(people)) for _ in range(2))
        if one != other:
            found.append(Said(one, other, Word(number, rng.random() < 0.5, "ann", "", number)))
    return found


def random_marks(rng: random.Random, people: int) -> list[Marked]:
    return [
        Marked(
            token(rng.choice(KINDS), rng.randrange(people)),
            Mark(number, rng.choice((None, Refused.SHARED)), "ann", "", number),
        )
        for number in range(50, 50 + rng.choice((0, 0, 1, 2)))
    ]


@pytest.mark.parametrize("seed", range(400))
def test_every_schedule_ends_with_what_resolve_says(seed: int) -> None:
    """In two of five no more may be decided together than is connected in the end."""
    rng = random.Random(seed)
    people = rng.choice((2, 5, 20))
    seen = random_touches(rng, people, rng.choice((5, 30, 120)))
    said, marked = random_words(rng, people), random_marks(rng, people)
    rules = [random_rules(rng) for _ in range(rng.choice((1, 1, 2, 3)))]
    if rng.random() < 0.4:
        members = judged_of(seen, said, rules[-1], marked).members
        largest = max(len(component) for component in components_of(members))
        rules = [msgspec.structs.replace(each, max_component=largest) for each in rules]
    ruled = [Ruled(number, each) for number, each in enumerate(rules[1:], 100)]
    graph = run(rules[0], shuffled([*seen, *said, *marked, *ruled], seed), seed)
    check(graph, seen, said, rules[-1], marked)
