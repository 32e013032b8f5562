"""The simulator catches what it is for: every mutation of the product fails one of the first seeds.

The same seeds pass without a mutation: `test_simulator` runs them.
"""

import pytest
from simulator.findings import Violation
from simulator.mutations import MUTATIONS, Mutation
from simulator.simulation import simulate
from test_simulator import SEEDS

WITHIN_SEEDS = 100
assert WITHIN_SEEDS <= SEEDS


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.__name__)
def test_mutation_is_caught(mutation: Mutation) -> None:
    with mutation(), pytest.raises(Violation):
        for seed in range(WITHIN_SEEDS):
            simulate(seed)
