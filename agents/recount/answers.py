"""Plain recomputation of answers, invitations, sentiment and mentions."""

from collections import deque
from collections.abc import Iterable, Iterator

from touchstream.agents.recount.facts import Fact, Measurement, Seen

SCALES = {"csat": (1, 5), "trust": (1, 5), "ces": (1, 7), "nps": (0, 10), "enps": (0, 10)}
USUAL_SCALE = (1, 5)
"""Of an item of the engagement survey that is asked without a question of ours."""
OWN_SCALE_ONLY = ("nps", "enps")
QUESTIONS = ("csat", "nps", "ces", "trust")
"""Questions to customers."""
KNOWN_INVITATIONS = 16


def asked_scale(fact: Fact) -> tuple[float, float]:
    """Lowest and highest answer that could be given."""
    low, high = SCALES.get(fact.question, USUAL_SCALE)
    return (
        low if fact.scale_min is None else fact.scale_min,
        high if fact.scale_max is None else fact.scale_max,
    )


def converted(fact: Fact) -> float | None:
    """Answer on the default scale of its question; None when it does not count."""
    asked_low, asked_high = asked_scale(fact)
    if fact.question not in SCALES or fact.score is None or asked_high <= asked_low:
        return None
    low, high = SCALES[fact.question]
    if fact.question in OWN_SCALE_ONLY:
        return fact.score if (asked_low, asked_high) == (low, high) else None
    return low + (fact.score - asked_low) / (asked_high - asked_low) * (high - low)


def customer_answer(fact: Fact) -> float | None:
    """Converted answer of a customer to one of our questions."""
    if fact.kind != "survey.answered" or fact.question not in QUESTIONS:
        return None
    return converted(fact)


def in_top_two(fact: Fact) -> bool:
    """Whether an answer is among the best two of its scale, or the best of a short one."""
    low, high = asked_scale(fact)
    best = high if high - low <= 2 else high - 1
    return fact.score is not None and fact.score >= best


def recommends(score: float) -> int:
    """1 for a promoter, -1 for a detractor, else 0."""
    return 1 if score >= 9 else -1 if score <= 6 else 0


def answer_measurements(lived: Iterable[Seen]) -> Iterator[Measurement]:
    """Measurements of what customers and employees answered, and of what customers wrote."""
    for seen in lived:
        answer = customer_answer(seen.fact)
        if answer is not None:
            yield from _of_answer(seen, answer)
        if seen.fact.kind == "employee.answered" and seen.fact.score is not None:
            yield from _of_employee(seen)
        yield from _of_text(seen)


def invitation_measurements(lived: Iterable[Seen]) -> Iterator[Measurement]:
    """Every invitation, and those that were answered at the time of the invitation."""
    still_open: deque[Seen] = deque(maxlen=KNOWN_INVITATIONS)
    for seen in lived:
        invitation = seen.fact.invitation_id
        if not invitation:
            continue
        if seen.fact.kind == "survey.invited":
            yield seen.measured("invited")
            still_open.append(seen)
        if seen.fact.kind == "survey.answered":
            answered = [each for each in still_open if each.fact.invitation_id == invitation]
            for each in answered:
                yield each.measured("responded")
                still_open.remove(each)


def _of_answer(seen: Seen, answer: float) -> Iterator[Measurement]:
    question = seen.fact.question
    if question == "nps":
        kind = recommends(answer)
        yield seen.measured("nps", kind)
        yield seen.measured("promoter", int(kind == 1))
        yield seen.measured("passive", int(kind == 0))
        yield seen.measured("detractor", int(kind == -1))
        return
    yield seen.measured(question, round(1000 * answer))
    if question == "ces":
        yield seen.measured("ces_index", 1 if answer >= 5.5 else -1 if answer < 3.5 else 0)
        yield seen.measured("ces_easy", int(answer >= 4.5))
    else:
        yield seen.measured(f"{question}_top2", int(in_top_two(seen.fact)))


def _of_employee(seen: Seen) -> Iterator[Measurement]:
    low, high = asked_scale(seen.fact)
    if seen.fact.question == "enps":
        score = converted(seen.fact)
        if score is not None:
            yield seen.measured("enps", recommends(score))
    if seen.fact.item and low < high:
        yield seen.measured("engagement", int(in_top_two(seen.fact)))


def _of_text(seen: Seen) -> Iterator[Measurement]:
    fact, sentiment = seen.fact, seen.fact.sentiment
    if sentiment is not None:
        yield seen.measured("sentiment", round(10_000 * sentiment))
        judged = 1 if sentiment >= 0.05 else -1 if sentiment <= -0.05 else 0
        yield seen.measured("net_sentiment", judged)
    if fact.kind == "social.mentioned":
        yield seen.measured("mention", 0 if fact.brand else 1)
    if fact.kind == "social.reviewed" and fact.rating is not None and fact.rating >= 4:
        yield seen.measured("good_review")
