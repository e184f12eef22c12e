from benchmarks.cases import random_half
from benchmarks.operations import operations_of

#: Of half the operations with partial channels; it may fall, and this with it.
MOST = 9_800


def test_a_step_dispatches_no_more_operations_than_it_did():
    assert operations_of(random_half(1), 4) <= MOST
