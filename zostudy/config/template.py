"""The text that ``zostudy new`` writes: a small study, with a comment on what one changes first."""

from zostudy.options import Option
from zostudy.registry import Component

#: Augmentation that suits the pictures; digits are tiny, and no digit is its mirror image.
_SMALL = "{crop_padding: 1, flip: false, cutout: 0}"
_LARGE = "{crop_padding: 4, flip: true, cutout: 0}"

_TEMPLATE = """\
# A study of neural architecture search. Check it with `zostudy validate`, see what it will run with
# `zostudy plan`, run it with `zostudy run`; run again, it continues. Every setting that is left out
# has a default; `zostudy schema` prints them all.
study: {study}
description: What this study is for

# Settings of supernet, prune and search; whatever is written below wins over them. Others: darts,
# beta-darts, pc-darts, etenas, etenas-pc, darts-rnd, zero-one-shot.
technique: zero-one-shot-rnd

dataset:
  name: {dataset}
{options}\
  validation_fraction: 0.2  # kept for validation accuracy, the only one that is selected on

supernet:
  cells: 4
  channels: 8

search:
  epochs: 8
  warmup_epochs: 2  # first epochs, which train the weights only
  batch_size: 64
  augment: {augment}

evaluate:  # training of the network found, from scratch
  cells: 5
  channels: 12
  epochs: 20
  batch_size: 64
  augment: {augment}

sweep:
  parameters:  # the path of any setting, and its values; every combination is run
    prune.xi: [0.25, 0.5, 0.75]  # share of the candidate operations that is kept
  seeds: [0]  # every point is repeated with each seed
  objectives:
    - {{metric: validation_accuracy, direction: maximize}}
"""

_PLACEHOLDERS = {"str": "pictures", "int": "1", "float": "0.5", "bool": "true"}


def text(study: str, dataset: Component) -> str:
    """A study file that validates.

    Args:
        study: Name of the study.
        dataset: Its data set; options without a default get a placeholder.
    """
    options = "".join(_line(option) for option in dataset.options if option.required)
    augment = _SMALL if dataset.name == "digits" else _LARGE
    return _TEMPLATE.format(study=study, dataset=dataset.name, options=options, augment=augment)


def _line(option: Option) -> str:
    value = option.choices[0] if option.choices else _PLACEHOLDERS[option.allowed[0]]
    return f"  {option.name}: {value}  # change this\n"
