"""Which settings of a trial have no effect, because of others."""

from zostudy.config.document import Document
from zostudy.config.settings import TrialConfig


def leave_search_out(config: TrialConfig, kept: Document) -> None:
    """Leave out what has no effect where a genotype is drawn at random, in place.

    A random genotype follows its mask and its limits alone, and a mask that is known without
    looking at pictures is that of every supernet.
    """
    kept["search"] = {"strategy": "random", "draw": config.search.draw}
    if config.search.constraints:
        kept["search"]["constraints"] = config.search.limits
    if config.mask_source.known:
        del kept["supernet"]
    else:
        kept["search"]["architecture_fraction"] = config.search.architecture_fraction
