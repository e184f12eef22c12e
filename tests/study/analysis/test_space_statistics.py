"""Statistics of masks against an enumeration in pandas, which reads the strings by itself."""

import math

import numpy as np
import pandas as pd
import pytest
import torch

from tests.tables import NASBENCH201, SPACE, made_up, settings, write
from zostudy.errors import ConfigError
from zostudy.evaluation.table import read
from zostudy.pruning.mask_sources import PruneContext, random
from zostudy.runtime import Runtime
from zostudy.space.enumeration import genotypes
from zostudy.space.mask import OperationMask
from zostudy.space.search_space import search_space
from zostudy.stage import StageContext
from zostudy.study.analysis.space_statistics import Census, summary
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


def test_what_masks_keep_is_what_pandas_counts(path, census):
    frame = pd.read_csv(path)
    for mask in masks(SPACE, 8, xi=0.6):
        wanted, kept = by_pandas(frame, mask, "test")
        found = census.statistics(mask)
        assert {name: found[name] for name in wanted} == pytest.approx(wanted)
        assert census.under(mask).tolist() == kept.tolist()


def test_isomorphic_architectures_count_once(census):
    # Without a convolution 8 of the 2³ cells are left; cells that compute the same are one class.
    rows = [("normal", edge, 2) for edge in range(3)]
    lean = OperationMask.full(SPACE).changed(remove=rows)
    classes = {genotype.canonical() for genotype in genotypes(lean)}
    assert census.under(lean).sum() == 8
    all_classes = {genotype.canonical() for genotype in genotypes(OperationMask.full(SPACE))}
    assert census.statistics(lean)["distinct_kept"] == len(classes) / len(all_classes)


def test_the_full_mask_keeps_everything(census):
    found = census.statistics(OperationMask.full(SPACE))
    shares = ("operations_kept", "architectures_kept", "distinct_kept", "top_kept")
    assert [found[name] for name in shares] == [1.0] * 4
    assert (found["best"], found["regret"]) == (90.0, 0.0)


def test_the_summary_has_every_seed_and_their_mean_and_spread(census):
    drawn = masks(SPACE, 5)
    found = summary(census, drawn)
    kept = [seed["architectures_kept"] for seed in found["seeds"]]
    assert found["after"]["architectures_kept"] == {
        "mean": pytest.approx(np.mean(kept)),
        "sd": pytest.approx(np.std(kept, ddof=1)),
    }
    assert (found["architectures"], found["top"]) == (27, {"count": 1, "from": 90.0})
    for histogram in (found["before"]["histogram"], *(s["histogram"] for s in found["seeds"])):
        assert len(histogram) == len(found["bins"]) - 1
        assert sum(histogram) == pytest.approx(1)
    assert found["bins"][0] <= 10
    assert found["bins"][-1] > 90


def test_one_seed_has_no_spread(census):
    assert summary(census, masks(SPACE, 1))["after"]["best"]["sd"] is None


@pytest.fixture
def document(census):
    about = {"space": "tiny", "column": "test", "prune": {"source": "random", "xi": 0.5}}
    return about | summary(census, masks(SPACE, 3))


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
        found = census.statistics(mask)
        assert {name: found[name] for name in wanted} == pytest.approx(wanted)
