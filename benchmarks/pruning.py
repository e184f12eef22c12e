"""What scores cost, how close the cheap ones come, and how far any of them can be trusted.

``python -m benchmarks.pruning [--json]`` takes about twenty minutes on two CPU cores:

- One network of 8 cells, C = 8, k = 4, one batch of 64 pictures of 32×32 (crops of the two
  photographs that come with scikit-learn), all 224 scores, NNGP: first order against exact, over 5
  initializations; exact against a plain loop of 224 full forward passes, in time, and in float64
  on 8 pictures by the largest difference over the largest score.
- Reliability of the scores of small networks (4 cells, C = 4, batches of 64 scanned digits) as a
  function of repeats: the rank correlation between the mean scores of so many repeats and those of
  as many others. 64 repeats are taken; for 64 it is foretold from halves of 32 (Spearman–Brown).
"""

import time
from collections.abc import Callable, Iterator, Sequence
from statistics import fmean

import torch
from scipy.stats import kendalltau
from sklearn.datasets import load_digits, load_sample_images
from torch import Tensor
from torch.nn import functional

from benchmarks.document import Row, main
from zostudy.config.settings import SupernetSettings
from zostudy.networks.supernet import Supernet
from zostudy.proxies.inputs import ProxyInputs, Ranking
from zostudy.proxies.values import values
from zostudy.pruning import exact, first_order, reliability
from zostudy.pruning.scoring import Scorer, losses, removable, uniform_mixing
from zostudy.space.mask import OperationMask, Place
from zostudy.space.search_space import search_space

SEEDS = 5
REPEATS = 64
SMALL = SupernetSettings(cells=4, channels=4)
LARGE = SupernetSettings(cells=8, channels=8, partial_channels=4, edge_normalization=True)

#: Rankings whose reliability is measured, and the scorer that can use each.
RANKINGS: dict[str, Scorer] = {
    "nngp": first_order,
    "synflow": first_order,
    "naswot": exact,
}


def supernet(settings: SupernetSettings, channels: int, seed: int) -> Supernet:
    """A network of the whole search space with new weights."""
    space = search_space("darts")
    mask = OperationMask.full(space)
    network = Supernet(space, mask, settings, in_channels=channels, classes=10)
    network.kaiming_normal_(torch.Generator().manual_seed(seed))
    return network.requires_grad_(requires_grad=False)


def ranking(name: str) -> Ranking:
    """A ranking function with its default options."""
    options = {"outputs": "logits", "kernel": "correlation", "statistic": "frobenius"}
    return Ranking.of({"name": name} | (options if name == "nngp" else {}), search_space("darts"))


def crops(count: int, seed: int) -> ProxyInputs:
    """Squares of two photographs, of 32 to 256 pixels, made 32 pixels wide and normalized."""
    generator = torch.Generator().manual_seed(seed)
    photographs = [torch.tensor(i).permute(2, 0, 1) / 255 for i in load_sample_images().images]

    def draw(end: int) -> int:
        return int(torch.randint(end, (), generator=generator))

    found = []
    for index in range(count):
        photograph, side = photographs[index % 2], 32 + draw(225)
        top, left = (draw(length - side) for length in photograph.shape[1:])
        square = photograph[None, :, top : top + side, left : left + side]
        found.append(functional.interpolate(square, (32, 32), mode="area"))
    images = torch.cat(found)
    deviation, mean = torch.std_mean(images, dim=(0, 2, 3), keepdim=True)
    return ProxyInputs((images - mean) / deviation, torch.arange(count) % 10)


def digits(count: int, seed: int) -> ProxyInputs:
    """Scanned digits, normalized."""
    scans = load_digits()
    chosen = torch.randperm(len(scans.target), generator=torch.Generator().manual_seed(seed))
    images = torch.tensor(scans.images, dtype=torch.float32)[chosen[:count], None]
    labels = torch.tensor(scans.target)[chosen[:count]]
    return ProxyInputs((images - images.mean()) / images.std(), labels, seed)


def plain_scores(
    network: Supernet, rankings: Sequence[Ranking], batches: Sequence[ProxyInputs]
) -> dict[Place, float]:
    """Leave-one-out scores by a full forward pass for each operation."""

    def rank(without: Place | None) -> Tensor:
        mixing = uniform_mixing(network, without=without)
        with torch.no_grad():
            found = [values(network, mixing, rankings, batch, twice=False) for batch in batches]
        return torch.tensor(found, dtype=torch.float64).mean(dim=0)

    places, whole = removable(network.mask), rank(None)
    lost = torch.stack([whole - rank(place) for place in places])
    return losses(network.space, rankings, whole, lost, places)


def timed(
    score: Callable[[], dict[Place, float]],
) -> tuple[dict[Place, float], float]:
    """Scores and the seconds they took."""
    started = time.perf_counter()
    found = score()
    return found, time.perf_counter() - started


def scorers() -> Iterator[Row]:
    """First order against exact, and exact against a plain loop."""
    nngp, agreement, seconds = [ranking("nngp")], [], []
    for seed in range(SEEDS):
        network, batches = supernet(LARGE, 3, seed), [crops(64, seed)]
        first_order.operation_scores(network, nngp, batches)  # warm-up
        near, fast = timed(lambda n=network, b=batches: first_order.operation_scores(n, nngp, b))  # type: ignore[misc]  # bound now
        true, slow = timed(lambda n=network, b=batches: exact.operation_scores(n, nngp, b))  # type: ignore[misc]  # bound now
        agreement.append(kendalltau([near[p] for p in true], list(true.values())).statistic)
        seconds.append((fast, slow))
    fast, slow = (fmean(times) for times in zip(*seconds, strict=True))
    yield Row("first-order-vs-exact", "kendall_tau", fmean(agreement))
    yield Row("first-order-vs-exact", "kendall_tau_lowest", min(agreement))
    yield Row("first-order-vs-exact", "time_ratio", fast / slow)
    yield Row("first-order-vs-exact", "seconds", fast, slow)
    yield from _exact_against_plain(network, nngp, batches)


def _exact_against_plain(
    network: Supernet, rankings: Sequence[Ranking], batches: Sequence[ProxyInputs]
) -> Iterator[Row]:
    """Time before and after the plain loop; the scores in float64 on few pictures."""
    _, before = timed(lambda: exact.operation_scores(network, rankings, batches))
    _, plain = timed(lambda: plain_scores(network, rankings, batches))
    _, after = timed(lambda: exact.operation_scores(network, rankings, batches))
    seconds = (before + after) / 2
    yield Row("exact-vs-plain", "time_ratio", seconds / plain)
    yield Row("exact-vs-plain", "seconds", seconds, plain)
    precise = network.double()
    few = [ProxyInputs(batch.images[:8].double(), batch.labels[:8]) for batch in batches]
    found = exact.operation_scores(precise, rankings, few)
    wanted = plain_scores(precise, rankings, few)
    apart = max(abs(found[place] - score) for place, score in wanted.items())
    largest = max(abs(score) for score in wanted.values())
    yield Row("exact-vs-plain", "largest_difference", apart / largest)


def reliabilities() -> Iterator[Row]:
    """How the reliability of a ranking grows with its repeats."""
    for name, scorer in RANKINGS.items():
        taken = []
        started = time.perf_counter()
        for seed in range(REPEATS):
            network = supernet(SMALL, 1, seed)
            scores = scorer.operation_scores(network, [ranking(name)], [digits(64, seed)])
            taken.append(list(scores.values()))
        samples = torch.tensor(taken, dtype=torch.float64)
        seconds = time.perf_counter() - started
        for repeats in (1, 4, 16, 64):
            drawn = torch.Generator().manual_seed(repeats)
            found = reliability.split_half(samples, repeats, drawn)
            if found is not None:
                yield Row(f"reliability-{name}", f"split_half_{repeats}", found)
        yield Row(f"reliability-{name}", "seconds_a_repeat", seconds / REPEATS)


def rows() -> Iterator[Row]:
    """Every result."""
    yield from scorers()
    yield from reliabilities()


if __name__ == "__main__":
    main("Scores of zero-shot pruning: cost, closeness and reliability.", rows)
