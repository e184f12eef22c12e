"""A genotype drawn at random from those that a mask allows: what a search is compared with."""

import random

from zostudy.errors import InadmissibleError
from zostudy.runtime import seeded
from zostudy.search.admission import Admission, everything
from zostudy.space.genotype import Genotype
from zostudy.space.mask import OperationMask
from zostudy.space.variation import Variation

#: Stream of a trial's seed that random genotypes are drawn from.
_RANDOM_GENOTYPE = "search/random genotype"


def random_genotype(
    mask: OperationMask, seed: int, draw: int, admission: Admission = everything
) -> Genotype:
    """A genotype; every one that the mask leaves, and that is admitted, is equally likely.

    Args:
        mask: The mask; a genotype exists under it.
        seed: The trial's seed.
        draw: Which of the random genotypes of that seed.
        admission: Which architectures may be chosen.

    Raises:
        InadmissibleError: None that is admitted was found.
    """
    stream = seeded("cpu", seed, _RANDOM_GENOTYPE, draw).initial_seed()
    listed = admission.listed(mask)
    try:
        return Variation(mask, random.Random(stream), admission, listed).random()
    except InadmissibleError as error:
        raise admission.refusal() from error
