"""Which architectures a search may choose: those that keep to limits of what they cost."""

from collections.abc import Callable, Collection, Mapping, Sequence

from zostudy.errors import InadmissibleError
from zostudy.space import enumeration
from zostudy.space.genotype import Genotype
from zostudy.space.mask import OperationMask
from zostudy.space.variation import TRIES

#: Metrics of a genotype, by their names: a function of the genotype and of the names.
Costs = Callable[[Genotype, Collection[str]], Mapping[str, float]]

#: Spaces of so many architectures are gone through, to know how many are admitted.
_LISTED = 20_000


class Admission:
    """Says of architectures whether they are admitted, and counts those that are not.

    What an architecture costs is given as a function: it is that of the network which the trial
    trains in the end, and a search knows nothing of that one.

    Args:
        limits: The largest value allowed of each metric; all are admitted where there is none.
        costs: What architectures cost; not asked where there are no limits.

    Attributes:
        limited: Whether there are limits.
        rejected: How often an architecture was not admitted.
    """

    def __init__(self, limits: Mapping[str, float], costs: Costs) -> None:
        self._limits, self._costs = dict(limits), costs
        self._nearest: tuple[float, Mapping[str, float]] | None = None
        self.limited = bool(limits)
        self.rejected = 0

    def __call__(self, genotype: Genotype) -> bool:
        """Whether an architecture is admitted."""
        if not self.limited:
            return True
        values = self._costs(genotype, self._limits)
        excess = max(values[name] / most - 1 for name, most in self._limits.items())
        if excess <= 0:
            return True
        self.rejected += 1
        if self._nearest is None or excess < self._nearest[0]:
            self._nearest = excess, values
        return False

    def listed(self, mask: OperationMask) -> Sequence[Genotype]:
        """All architectures of a mask that are admitted; none without limits or in large spaces.

        Raises:
            InadmissibleError: The space is small enough to be gone through, and none is.
        """
        count = enumeration.count(mask)
        if not self.limited or count > _LISTED:
            return ()
        before = self.rejected
        admitted = tuple(filter(self, enumeration.genotypes(mask)))
        self.rejected = before
        if not admitted:
            raise self.refusal(f"none of the {count:,} architectures that the mask leaves")
        return admitted

    def refusal(
        self, which: str = f"none of {TRIES:,} architectures drawn at random"
    ) -> InadmissibleError:
        """That architectures which were asked about do not keep to the limits, and by how much.

        Args:
            which: Which of them do, such as "none of …".
        """
        values = self._nearest[1] if self._nearest else {}
        nearest = ", ".join(
            f"{name} {value:,.0f} (at most {self._limits[name]:,.0f})"
            for name, value in values.items()
        )
        return InadmissibleError(
            f"search.constraints: {which} keeps to the limits; the nearest has {nearest}"
        )


#: Admits every architecture.
everything = Admission({}, lambda _, __: {})
