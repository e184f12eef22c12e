"""Whatever settings `validate` passes can be planned, or are refused in one line."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.config.test_ranges import BOUND, NUMBERS, inside
from zostudy.config.loading import from_document
from zostudy.errors import InputError
from zostudy.study import points
from zostudy.study.planning.plan import Planner

#: The smallest study, so that a plan of it takes a moment.
SMALL = {
    "study": "s",
    "prune": {"source": "zero_shot", "images": 8, "batch_size": 8},
    "supernet": {"cells": 1, "channels": 4},
    "search": {"epochs": 4, "warmup_epochs": 1, "batch_size": 8},
    "evaluate": {"cells": 1, "channels": 2, "epochs": 1, "batch_size": 8},
    "runtime": {"device": "cpu"},
}
#: What makes networks larger, which are planned in small only.
SIZES = {"supernet.cells", "evaluate.cells", "evaluate.channels", "dataset.resize"}


def drawn(path):
    """Values inside a range; of sizes, small ones."""
    found = NUMBERS[path]
    if path in SIZES:
        return st.integers(int(found["minimum"]), int(found["minimum"]) + 3)
    return inside(found)


@pytest.mark.slow
@settings(max_examples=15, deadline=None, derandomize=True)
@given(st.data())
def test_settings_inside_their_ranges_can_be_planned(data):
    document = {key: dict(v) if isinstance(v, dict) else v for key, v in SMALL.items()}
    for path in data.draw(st.sets(st.sampled_from(sorted(NUMBERS.keys() - BOUND)), max_size=4)):
        *parents, last = path.split(".")
        holder = document
        for key in parents:
            holder = holder.setdefault(key, {})
        holder[last] = data.draw(drawn(path))
    file = from_document(document)
    refused = ""
    try:
        (planned,) = Planner.of(file).plan([points.first(file)]).configurations
    except InputError as error:  # such as a batch that is larger than its part of the data
        refused = str(error)
    told = len(refused.splitlines()) == 1 and ": " in refused
    assert told or planned.phases["search"].peak_bytes > 0
