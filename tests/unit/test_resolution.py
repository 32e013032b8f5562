"""Who is one customer: connected identities, named after the oldest, in any order of evidence."""

from collections import defaultdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from touchstream.agents.messages import Token
from touchstream.agents.resolution import resolve

A, B, C, D = b"a", b"b", b"c", b"d"
TOKENS = st.integers(0, 12).map(lambda n: b"%02d" % n)
SEEN = st.dictionaries(TOKENS, st.integers(0, 5), max_size=13)
LINKS = st.lists(st.tuples(TOKENS, TOKENS), max_size=20)


def searched(first_seen: dict[Token, int], links: list[tuple[Token, Token]]) -> dict[Token, Token]:
    """Breadth first, and plainly."""
    neighbours: defaultdict[Token, set[Token]] = defaultdict(set)
    for one, other in links:
        if one in first_seen and other in first_seen:
            neighbours[one].add(other)
            neighbours[other].add(one)
    found: dict[Token, Token] = {}
    for start in first_seen:
        if start not in found:
            group, edge = {start}, [start]
            while edge:
                new = neighbours[edge.pop(0)] - group
                group |= new
                edge += new
            oldest = min((first_seen[identity], identity) for identity in group)[1]
            found |= dict.fromkeys(group, oldest)
    return found


@given(SEEN, LINKS)
def test_customers_are_the_connected_groups(
    first_seen: dict[Token, int], links: list[tuple[Token, Token]]
) -> None:
    assert resolve(first_seen, links) == searched(first_seen, links)


@given(SEEN, LINKS, st.data())
def test_order_and_direction_of_links_do_not_matter(
    first_seen: dict[Token, int], links: list[tuple[Token, Token]], data: st.DataObject
) -> None:
    shuffled = data.draw(st.permutations(links + links[:3]))
    turned = [link[::-1] if data.draw(st.booleans()) else link for link in shuffled]
    assert resolve(first_seen, turned) == resolve(first_seen, links)


@given(SEEN, LINKS, st.data())
def test_order_of_identities_does_not_matter(
    first_seen: dict[Token, int], links: list[tuple[Token, Token]], data: st.DataObject
) -> None:
    shuffled = dict(data.draw(st.permutations(list(first_seen.items()))))
    assert resolve(shuffled, links) == resolve(first_seen, links)


@given(SEEN, LINKS)
def test_evidence_is_left_as_it_was(
    first_seen: dict[Token, int], links: list[tuple[Token, Token]]
) -> None:
    before = (dict(first_seen), list(links))
    resolve(first_seen, links)
    assert (first_seen, links) == before


def test_identity_alone_is_its_own_customer() -> None:
    assert resolve({A: 1, B: 2}, []) == {A: A, B: B}


def test_customer_is_named_after_the_oldest_identity() -> None:
    assert resolve({A: 9, B: 3, C: 5}, [(A, B), (A, C)]) == {A: B, B: B, C: B}


def test_of_equally_old_identities_the_smallest_names_the_customer() -> None:
    assert resolve({C: 1, B: 1}, [(C, B)]) == {C: B, B: B}


def test_older_customer_survives_a_merge() -> None:
    first_seen, links = {A: 4, B: 3, C: 2, D: 1}, [(A, B), (C, D)]
    assert resolve(first_seen, links)[A] == B
    assert set(resolve(first_seen, [*links, (A, C)]).values()) == {D}


@pytest.mark.parametrize("link", [(A, D), (D, A), (D, D)])
def test_link_to_an_unknown_identity_is_left_out(link: tuple[Token, Token]) -> None:
    assert resolve({A: 1}, [link]) == {A: A}


def test_long_chain_is_one_customer() -> None:
    chain = [b"%05d" % n for n in range(5000)]
    found = resolve(
        {token: 5000 - n for n, token in enumerate(chain)}, zip(chain, chain[1:], strict=False)
    )
    assert set(found.values()) == {chain[-1]}
