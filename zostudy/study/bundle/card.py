"""The card of a bundle: README.md, for people."""

from collections.abc import Mapping
from typing import Any

from zostudy.study.bundle.formats import INT8, Formats
from zostudy.study.bundle.program import PIL_MODES, Bundle

_CARD = """\
# {study}, trial {trial}

A classifier of {channels}×{height}×{width} pictures (channels × height × width) into
{count} classes: {classes}. Its architecture was found by zostudy, and its weights were trained from
scratch.

| file | holds |
| --- | --- |
{programs}
| `predict.py` | classifies picture files |
| `labels.json` | names of the classes, in the order of the probabilities |
| `preprocess.py` | makes pixels of a picture file, by the very code that read those of training |
| `preprocessing.json` | its settings, and what the programs normalize with |
| `weights.safetensors` | the weights, named as in zostudy's network of the genotype |
| `genotype.json`, `genotype.png` | the architecture, as data and drawn |
| `metrics.json` | the figures of the trial, and their spread over the seeds |
| `report.json` | how the programs were compared with the network, and their latency |
| `bundle.json` | where the network came from |
| `versions.json` | the versions and the machine that made it |
| `SHA256SUMS` | checksums of all files, as `sha256sum --check` takes them |

A program takes pictures as bytes (uint8 from 0 to 255; batch, channels, height, width; a batch of
any size) and gives the probabilities of the classes. It normalizes by itself.

## Use

```sh
python predict.py {picture}
```

needs `{runtime}`, `numpy` and `pillow`, and not zostudy. In Python, in this folder:

```python
import sys
from pathlib import Path

from predict import Classifier

classifier = Classifier(Path())
pixels = classifier.read(Path(sys.argv[1]))  # as training read its pictures
probabilities = classifier.probabilities(pixels[None])[0]
best = int(probabilities.argmax())
print(f"{{classifier.labels[best]}}: {{100 * probabilities[best]:.1f}} %")
```

## Architecture

```text
{architecture}
```

## Accuracy and latency

Of the trained network on {tested} test pictures: {accuracy:.2f} %. Every program but a quantized
one gives the same label for each of them, and probabilities within {tolerance:g}.

| program | test % | other labels | largest difference | bytes | {columns} |
| --- | --- | --- | --- | --- | {ruler} |
{rows}

Latency is the median of a call, and in brackets the 95th percentile, in milliseconds, with
{threads} on {hardware}.

## Where it came from

{provenance}

## Figures of the trial

{metrics}
{spread}
## Made with

{versions}
"""

_PROGRAMS = {
    "model.pt2": "the program for torch (`torch.export.load`)",
    "model.onnx": "the program for ONNX Runtime and others that read ONNX",
    INT8: "the ONNX program in int8, calibrated on training pictures",
}


def card(
    bundle: Bundle, chosen: Formats, report: Mapping[str, Any], versions: Mapping[str, str]
) -> str:
    """The text of README.md."""
    channels, height, width = bundle.shape
    rows = report["latency"]["measured"]
    batches = list(dict.fromkeys(row["batch"] for row in rows))
    threads = rows[0]["threads"]
    return _CARD.format(
        study=plain(bundle.provenance["study"]),
        trial=plain(bundle.provenance["trial"]),
        channels=channels,
        height=height,
        width=width,
        count=len(bundle.classes),
        classes=", ".join(plain(name) for name in bundle.classes),
        programs="\n".join(f"| `{name}` | {_PROGRAMS[name]} |" for name in report["programs"]),
        picture="picture.jpg" if channels in PIL_MODES else "picture.npy",
        runtime="onnxruntime" if "onnx" in chosen.names else "torch",
        architecture=bundle.genotype,
        tested=report["test_pictures"],
        accuracy=report["accuracy"],
        tolerance=report["tolerance"],
        columns=" | ".join(f"batch of {batch}" for batch in batches),
        ruler=" | ".join("---" for _ in batches),
        rows="\n".join(_row(name, report) for name in report["programs"]),
        threads="1 thread" if threads == 1 else f"{threads} threads",
        hardware=plain(report["latency"]["hardware"]["processor"]),
        provenance=_table(bundle.provenance),
        metrics=_table(bundle.metrics),
        spread=_spread(bundle.spread),
        versions=_table(versions),
    )


def _row(name: str, report: Mapping[str, Any]) -> str:
    found = report["programs"][name]
    cells = [
        f"`{name}`",
        f"{found['accuracy']:.2f}",
        str(found["different_labels"]),
        f"{found['largest_difference']:.1g}",
        f"{found['bytes']:,}",
        *(
            f"{row['median_ms']:.2f} ({row['p95_ms']:.2f})"
            for row in report["latency"]["measured"]
            if row["program"] == name
        ),
    ]
    return f"| {' | '.join(cells)} |"


def _spread(spread: Mapping[str, Any]) -> str:
    """Mean ± standard deviation over the seeds of the trial's point; nothing where it has one."""
    if not spread or spread["n"] < 2:
        return ""
    rows = [
        f"| {plain(name)} | {found['mean']:.6g} | "
        f"{'–' if found['sd'] is None else format(found['sd'], '.3g')} |"
        for name, found in spread["metrics"].items()
    ]
    head = "| over seeds | mean | standard deviation |\n| --- | --- | --- |"
    return "\n".join(["", f"Over {spread['n']} seeds of the same settings:", "", head, *rows, ""])


def _table(values: Mapping[str, object]) -> str:
    rows = [f"| {plain(name)} | {plain(value)} |" for name, value in values.items()]
    return "\n".join(["| | |", "| --- | --- |", *rows])


def plain(value: object) -> str:
    """Text that stays on its line and in its column of a Markdown table."""
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    return " ".join(text.split()).replace("|", "\\|")
