"""The ways to search, by the name that a study gives them."""

from collections.abc import Mapping
from typing import Protocol

from zostudy.config.search import SearchSettings
from zostudy.config.settings import SupernetSettings
from zostudy.data.dataset import Dataset
from zostudy.runtime import Runtime
from zostudy.search import bilevel, scored
from zostudy.search.admission import Admission
from zostudy.search.result import SearchResult
from zostudy.space.mask import OperationMask
from zostudy.stage import StageContext


class Strategy(Protocol):
    """A way to search."""

    def search(
        self,
        mask: OperationMask,
        dataset: Dataset,
        supernet: SupernetSettings,
        settings: SearchSettings,
        context: StageContext,
        admission: Admission,
    ) -> SearchResult:
        """From a mask to a genotype."""

    def predict_peak(
        self,
        mask: OperationMask,
        dataset: Dataset,
        supernet: SupernetSettings,
        settings: SearchSettings,
        runtime: Runtime,
    ) -> int:
        """Its peak on the CPU in bytes, or a bound of it, without computing it."""


STRATEGIES: Mapping[str, Strategy] = {"bilevel": bilevel, "score": scored}
