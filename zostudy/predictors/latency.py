"""The latency of architectures on a device, learned from a few that were measured there.

A device runs the operations of a network one after the other, so that its latency is nearly a sum
over them. Which operations run depends on the runtime: one that executes the network as it is
written runs all, and one that compiles it leaves out what does not reach the output (`READINGS`).

Symbols:
    n        measured architectures
    y_i      latency of architecture i, milliseconds
    c_io     how many operations of kind o it has, over all edges and cell types
    x_ieo    whether it has operation o on edge e, 0 or 1

    y_i = b + Σ_o u_o c_io + Σ_eo v_eo x_ieo + noise

    b, u, v  milliseconds, at least 0; before anything is measured, normal with mean 0 and the
             variances of `_BASE`, `_KINDS` and `_EDGES` in multiples of the noise's, so that an
             edge differs little from its operation's mean
    noise    with a standard deviation in proportion to y_i + median(y) / 2

Reading and variances are those of the largest evidence (marginal likelihood; MacKay 1992, "Bayesian
interpolation"), the weights the most probable ones that are not negative.
"""

import functools
import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64
from scipy.optimize import nnls

from zostudy.predictors.encodings import Edge, all_edges, live_edges, used_edges
from zostudy.space.genotype import Genotype

#: What a runtime runs: every operation, those whose result reaches the output, or of these only
#: those that an input reaches too.
READINGS: Mapping[str, Callable[[Genotype, str], list[Edge]]] = {
    "all": all_edges,
    "used": used_edges,
    "live": live_edges,
}

#: Fewest measured architectures that say anything.
LEAST = 5

_BASE, _KINDS, _EDGES = 1000.0, (10.0, 100.0), (0.01, 0.1, 1.0)

#: A feature: an operation, and the cell type and nodes of one edge; without these, any edge's.
Feature = tuple[str, ...]

Matrix = Float64[np.ndarray, "n features"]
Latencies = Float64[np.ndarray, " n"]


@dataclass(frozen=True)
class LatencyModel:
    """Milliseconds of every operation on a device.

    Attributes:
        reading: What it runs, one of `READINGS`.
        base: Milliseconds of all that architectures have in common.
        weights: Milliseconds by feature.
    """

    reading: str
    base: float
    weights: Mapping[Feature, float]

    @classmethod
    def fit(cls, genotypes: Sequence[Genotype], latencies: Latencies) -> "LatencyModel":
        """Learn from measured architectures of one space, at least `LEAST`.

        Args:
            genotypes: The architectures.
            latencies: Their latencies in milliseconds, above 0.
        """
        scale = float(np.median(latencies))
        certainty = 1 / (latencies / scale + 0.5)
        certainty /= certainty.mean()
        aims = latencies / scale * certainty
        candidates = [
            candidate
            for reading in READINGS
            for candidate in _Candidate.of(genotypes, reading, certainty)
        ]
        best = max(candidates, key=lambda candidate: candidate.evidence(aims))
        base, *weights = (best.weights(aims) * scale).tolist()
        return cls(best.reading, base, dict(zip(best.features, weights, strict=True)))

    def __call__(self, genotypes: Sequence[Genotype]) -> Latencies:
        """Milliseconds of architectures; an operation that no measured one had costs nothing."""
        counts = [_counts(genotype, self.reading) for genotype in genotypes]
        return np.array(
            [
                self.base + sum(self.weights.get(f, 0.0) * c for f, c in row.items())
                for row in counts
            ]
        )


@dataclass(frozen=True)
class _Candidate:
    """The model with one reading and prior.

    Attributes:
        reading: One of `READINGS`.
        features: The features of the measured architectures.
        deviations: Prior standard deviations of base and weights, in multiples of the noise's.
        design: Base and features of each architecture, times these and its certainty.
    """

    reading: str
    features: Sequence[Feature]
    deviations: Float64[np.ndarray, " features"]
    design: Matrix

    @classmethod
    def of(
        cls,
        genotypes: Sequence[Genotype],
        reading: str,
        certainty: Latencies,
    ) -> "Iterator[_Candidate]":
        """Those of measured architectures, with each variance of kinds and of edges."""
        rows = [_counts(genotype, reading) for genotype in genotypes]
        features = sorted(set().union(*rows))
        counts = np.array([[1, *(row[feature] for feature in features)] for row in rows])
        for kinds, edges in itertools.product(_KINDS, _EDGES):
            variances = [_BASE, *(kinds if len(feature) == 1 else edges for feature in features)]
            deviations = np.sqrt(variances)
            yield cls(reading, features, deviations, counts * deviations * certainty[:, None])

    def evidence(self, aims: Latencies) -> float:
        """The logarithm of the marginal likelihood, but for a constant.

        With the design D and the aims a, their covariance D Dᵀ + I is as large as there are
        architectures, so that Sylvester's and Woodbury's identities are used on Dᵀ D + I:
        |D Dᵀ + I| = |Dᵀ D + I|, and aᵀ (D Dᵀ + I)⁻¹ a = |a - D w|² + |w|² for (Dᵀ D + I) w = Dᵀ a.
        """
        precision = self.design.T @ self.design + np.eye(len(self.deviations))
        weights = np.linalg.solve(precision, self.design.T @ aims)
        rest = aims - self.design @ weights
        variance = (rest @ rest + weights @ weights) / len(aims)  # the likeliest noise's
        determinant = np.linalg.slogdet(precision).logabsdet
        return float(-(len(aims) * np.log(variance) + determinant) / 2)

    def weights(self, aims: Latencies) -> Float64[np.ndarray, " features"]:
        """The most probable base and weights that are not negative."""
        width = len(self.deviations)
        scaled, _ = nnls(np.r_[self.design, np.eye(width)], np.r_[aims, np.zeros(width)])
        return np.asarray(scaled * self.deviations)


@functools.lru_cache(maxsize=2**16)
def _counts(genotype: Genotype, reading: str) -> Counter[Feature]:
    """How often an architecture has each feature."""
    found: Counter[Feature] = Counter()
    for kind in genotype.space.cell_types:
        for edge in READINGS[reading](genotype, kind):
            found[edge.operation,] += 1
            found[edge.operation, kind, str(edge.source), str(edge.target)] += 1
    return found
