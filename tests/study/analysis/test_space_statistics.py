"""Statistics of masks against an enumeration in pandas, which reads the strings by itself."""

import math
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats

from tests.tables import NASBENCH201, SPACE, made_up, settings, write
from zostudy.errors import ConfigError
from zostudy.evaluation.table import read
from zostudy.pruning.mask_sources import PruneContext, random
from zostudy.runtime import Runtime
from zostudy.space.enumeration import genotypes
from zostudy.space.mask import OperationMask
from zostudy.space.search_space import search_space
from zostudy.stage import StageContext
from zostudy.study.analysis.coin import against_coin, coin
from zostudy.study.analysis.populations import Census, Predicted
from zostudy.study.analysis.space_statistics import distances, shares, summary, threshold
from zostudy.study.pictures.space_picture import check_picture, distribution_figure, save
from zostudy.study.report.console import output
from zostudy.study.report.space_table import print_statistics


def masks(space, count, xi=0.5):
    stages = [StageContext(Runtime(torch.device("cpu")), seed) for seed in range(count)]
    contexts = [PruneContext(space, None, None, None, stage) for stage in stages]
    return [random(context, xi=xi).mask for context in contexts]


def by_pandas(frame, mask, column):
    """What a mask keeps, from the architecture strings alone."""
    operations = frame.ArchitectureString.str.extractall(r"([a-z_0-9]+)~\d")[0].unstack()
    kept = pd.Series(data=True, index=frame.index)
    for edge, names in enumerate(mask.to_dict()["cells"]["normal"]):
        kept &= operations[edge].isin(names)
    top = frame[column] >= frame[column].nlargest(math.ceil(len(frame) / 100)).min()
    return {
        "architectures_kept": kept.mean(),
        "top_kept": (kept & top).sum() / top.sum(),
        "top_among_kept": (kept & top).sum() / kept.sum(),
        "best": frame[column][kept].max(),
        "regret": frame[column].max() - frame[column][kept].max(),
        "mean": frame[column][kept].mean(),
        "median": frame[column][kept].median(),
    }, kept


@pytest.fixture
def path(tmp_path):
    return write(tmp_path / "made_up.csv", made_up())


@pytest.fixture
def census(path):
    return Census.of(read(settings(path), SPACE))


def kept_by(census, mask):
    return shares(census, mask, 0, threshold(census.accuracies))[0]


def test_what_masks_keep_is_what_pandas_counts(path, census):
    frame = pd.read_csv(path)
    for mask in masks(SPACE, 8, xi=0.6):
        wanted, kept = by_pandas(frame, mask, "test")
        found = kept_by(census, mask)
        assert {name: found[name] for name in wanted} == pytest.approx(wanted)
        assert census.under(mask).tolist() == kept.tolist()


def test_isomorphic_architectures_count_once(census):
    # Without a convolution 8 of the 2³ cells are left; cells that compute the same are one class.
    rows = [("normal", edge, 2) for edge in range(3)]
    lean = OperationMask.full(SPACE).changed(remove=rows)
    classes = {genotype.canonical() for genotype in genotypes(lean)}
    assert census.under(lean).sum() == 8
    all_classes = {genotype.canonical() for genotype in genotypes(OperationMask.full(SPACE))}
    assert kept_by(census, lean)["distinct_kept"] == len(classes) / len(all_classes)


def test_the_full_mask_keeps_everything(census):
    found = kept_by(census, OperationMask.full(SPACE))
    shares = ("operations_kept", "architectures_kept", "distinct_kept", "top_kept")
    assert [found[name] for name in shares] == [1.0] * 4
    assert (found["best"], found["regret"]) == (90.0, 0.0)


def test_the_summary_has_every_seed_and_their_mean_and_spread(census):
    found = summary(census, masks(SPACE, 5), range(5))
    kept = [seed["architectures_kept"] for seed in found["seeds"]]
    after = found["after"]["architectures_kept"]
    assert after["mean"] == pytest.approx(np.mean(kept))
    assert after["sd"] == pytest.approx(np.std(kept, ddof=1))
    half = stats.t.ppf(0.975, 4) * np.std(kept, ddof=1) / math.sqrt(5)
    assert after["interval"] == pytest.approx((np.mean(kept) - half, np.mean(kept) + half))
    assert (found["architectures"], found["top"]) == (27, {"count": 1, "from": 90.0})
    for histogram in (found["before"]["histogram"], *(s["histogram"] for s in found["seeds"])):
        assert len(histogram) == len(found["bins"]) - 1
        assert sum(histogram) == pytest.approx(1)
    assert found["bins"][0] <= 10
    assert found["bins"][-1] > 90


def test_one_seed_has_no_spread(census):
    assert summary(census, masks(SPACE, 1), [0])["after"]["best"]["sd"] is None


@pytest.fixture
def document(census):
    about = {"space": "tiny", "column": "test", "prune": {"source": "random", "xi": 0.5}}
    return about | {"distinct": census.distinct} | summary(census, masks(SPACE, 3), range(3))


def test_distances_are_areas_and_heights_between_the_steps_of_two_distributions():
    whole, kept = np.array([0.0, 1.0, 2.0, 3.0]), np.array([2.0, 3.0])
    found = distances(whole, kept)
    # F and F_m differ by 1/4 from 0 to 1, by 1/2 from 1 to 2, by 1/4 from 2 to 3
    assert found == {"kolmogorov_smirnov": pytest.approx(0.5), "wasserstein": pytest.approx(1.0)}


def test_a_coin_keeps_as_many_operations_of_each_edge():
    (mask,) = masks(SPACE, 1, xi=0.6)
    coins = [coin(mask, seed) for seed in range(20)]
    assert {tuple(map(sum, one.rows["normal"])) for one in coins} == {
        tuple(map(sum, mask.rows["normal"]))
    }
    assert len({one.digest() for one in coins}) > 5
    assert coin(mask, 3) == coins[3]


def test_the_best_choice_is_told_from_a_coin_and_a_coin_is_not(census):
    def statistics(mask):
        return kept_by(census, mask)

    # The convolution, which the made-up accuracies grow with, and one that is drawn.
    best = OperationMask(SPACE, {"normal": ((False, False, True),) * 3})
    found = against_coin(statistics, [best], [0], coins=99)
    assert found["mean"]["by_chance"] == pytest.approx(1 / 27, abs=0.06)  # a coin is as good
    assert found["regret"]["by_chance"] == pytest.approx(1 / 27, abs=0.06)
    thrice = against_coin(statistics, [best] * 3, [0, 1, 2], coins=99)  # which is one choice
    assert thrice["mean"]["by_chance"] == found["mean"]["by_chance"]
    assert found["mean"]["mean"] == pytest.approx(census.accuracies.mean(), abs=4)
    chances = [
        against_coin(statistics, [coin(best, 1000 + seed)], [seed], coins=99)["mean"]["by_chance"]
        for seed in range(40)
    ]
    assert np.mean(chances) == pytest.approx(0.5, abs=0.2)


class Counting:
    """Predicts the number of convolutions of an architecture."""

    examples = SimpleNamespace(space=SPACE)

    def __call__(self, genotypes):
        counts = [sum(name == "nor_conv_1x1" for *_, name in g.operations()) for g in genotypes]
        return SimpleNamespace(accuracies=np.array(counts, dtype=float))


def test_a_sample_has_what_is_predicted_of_the_whole_space_and_under_each_mask():
    population = Predicted.of(Counting(), 6000, 2)
    assert len(population.accuracies) == 6000
    assert population.accuracies.mean() == pytest.approx(1.0, abs=0.05)
    lean = OperationMask.full(SPACE).changed(remove=[("normal", 0, 2)])  # no convolution there
    kept = population.kept(lean, 0)
    assert len(kept.accuracies) == 3000
    assert kept.accuracies.mean() == pytest.approx(2 / 3, abs=0.05)
    assert kept.figures == {}
    full = population.kept(OperationMask.full(SPACE), 5)
    assert full.accuracies is population.accuracies


@pytest.mark.parametrize("suffix", [".png", ".svg", ".pdf"])
def test_the_picture_is_written_whole(document, tmp_path, suffix):
    path = tmp_path / f"picture{suffix}"
    check_picture(path)
    save(distribution_figure(document), path)
    assert path.stat().st_size > 5000
    assert list(tmp_path.glob(".*")) == []


def test_a_picture_that_cannot_be_written_is_refused(document, tmp_path):
    with pytest.raises(ConfigError, match=r"ends in no format; allowed: \.png, \.svg, \.pdf"):
        check_picture(tmp_path / "picture.bmp")
    with pytest.raises(ConfigError, match="is no folder"):
        check_picture(tmp_path / "none" / "picture.png")
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(ConfigError, match="cannot be written"):
        save(distribution_figure(document), tmp_path / "folder.png")


def test_the_table_has_shares_in_percent_and_the_range_over_seeds(document, capsys):
    print_statistics(document, output())
    text = capsys.readouterr().out
    assert "tiny, test: mask random, ξ 0.5, 3 seeds" in text
    line = next(line for line in text.splitlines() if "architectures kept" in line)
    cells = [cell.strip() for cell in line.split("│")[2:5]]
    kept = document["after"]["architectures_kept"]
    assert cells[:2] == ["100.00", f"{100 * kept['mean']:.2f} ± {100 * kept['sd']:.2f}"]


@pytest.mark.skipif(
    not NASBENCH201.exists(), reason=f"{NASBENCH201} is not there; ZOSTUDY_DATA names its folder"
)
def test_masks_of_nasbench201_keep_what_pandas_counts():
    column, space = "CIFAR10TestAccuracy200Epochs", search_space("nasbench201")
    census = Census.of(read(settings(NASBENCH201, column=column), space))
    frame = pd.read_csv(NASBENCH201)
    assert len(np.unique(census.classes)) == frame.UniqueString.nunique()
    for mask in masks(space, 5):
        wanted, kept = by_pandas(frame, mask, column)
        wanted["distinct_kept"] = frame.UniqueString[kept].nunique() / frame.UniqueString.nunique()
        found = kept_by(census, mask)
        assert {name: found[name] for name in wanted} == pytest.approx(wanted)
