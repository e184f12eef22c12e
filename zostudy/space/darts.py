"""The DARTS search space (docs/method.md, section 1; Liu et al. 2018, section 2.1)."""

from zostudy.registry import search_space
from zostudy.space.notation import TupleNotation
from zostudy.space.search_space import SearchSpace


@search_space("darts")
def darts() -> SearchSpace:
    """Two cell types, 14 edges, 8 operations: more than 10^18 cells."""
    return SearchSpace(
        name="darts",
        cell_types=("normal", "reduction"),
        reduction_types=("reduction",),
        inputs=2,
        nodes=4,
        operations=(
            "none",
            "max_pool_3x3",
            "avg_pool_3x3",
            "skip_connect",
            "sep_conv_3x3",
            "sep_conv_5x5",
            "dil_conv_3x3",
            "dil_conv_5x5",
        ),
        zero="none",
        kept_edges=2,
        identity="skip_connect",
        notation=TupleNotation((("normal", "normal"), ("reduction", "reduce"))),
    )
