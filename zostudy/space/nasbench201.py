"""The NAS-Bench-201 search space (Dong and Yang 2020), the topology space of NATS-Bench."""

from zostudy.registry import search_space
from zostudy.space.notation import EdgeNotation
from zostudy.space.search_space import SearchSpace, Skeleton


@search_space("nasbench201")
def nasbench201() -> SearchSpace:
    """One cell type, 6 edges that all keep one of 5 operations: 15,625 cells.

    Pools have no BN, in the supernet neither, as in the public code.

    References:
        Dong and Yang 2020, "NAS-Bench-201", section 2.1 and figure 1.
    """
    return SearchSpace(
        name="nasbench201",
        cell_types=("normal",),
        reduction_types=(),
        inputs=1,
        nodes=3,
        operations=("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3"),
        zero="none",
        kept_edges="all",
        keeps_zero=True,
        identity="skip_connect",
        registered=(("avg_pool_3x3", "plain_avg_pool_3x3"),),
        output="last",
        skeleton=Skeleton(halving="blocks", stem=1, head="norm"),
        notation=EdgeNotation("normal"),
    )
