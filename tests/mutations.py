"""Study files and other files, spoilt in many ways, the same for the same seed."""

import gzip
import json
import os
import random
import re
from collections.abc import Callable, Iterator
from typing import Any

import yaml


def seeds(few: int) -> range:
    """As many seeds as a test tries, or `ZOSTUDY_FUZZ` times as many."""
    return range(few * int(os.environ.get("ZOSTUDY_FUZZ", "1")))


#: What a value may be replaced with.
STRANGE = (
    None, True, False, 0, -1, 1, 3.5, -0.0, 1e308, -1e308, 10**30, 10**400, float("nan"),
    float("inf"), "", " ", "x", "0", "none", "null", "1e3", "8GiB", "../..", "a.b.c", "{", "[",
    "\t", "é", "ξ", "😀" * 50, "\u202e", "\x00", "a" * 100_000, [], {}, [[]], [None], [1, "a"],
    list(range(2000)), {"a": {"b": {"c": []}}}, {"name": 1}, {"low": 1, "high": 0},
    {"low": 0, "high": 1e300, "step": 1}, {"low": float("nan"), "high": 1},
)  # fmt: skip

#: What a file may be replaced with, or have added to it.
TEXTS = (
    "", "\n", "null", "[]", "text", "42", "%YAML 1.3\n", "---\n---\n", "study: a\nstudy: b\n",
    "study: !!python/object/apply:os.system ['true']\n", "study: !!binary aGk=\n", "!!set {a}\n",
    "study: &a [*a]\n", "a: &a [x, x]\nb: &b [*a, *a]\nc: &c [*b, *b]\nstudy: *c\n",
    "study: 2026-01-01\n", "study: 1:30:00\n", "? [a]\n: b\n", "1: 2\n", "~: 1\n", "<<: {a: 1}\n",
    "study: 'unfinished\n", "study: [1, 2\n", "\tstudy: a\n", "study: a\n  b: c\n", "@\n",
    "\ufeffstudy: a",
    "study: \x07\n", "study: \ud800\n", "{" * 1000, "[" * 20_000, "study: |\n", "&" * 100, "*a\n",
    "sweep:\n  parameters: {prune.xi: &x [0.1, 0.2], prune: *x}\n",
)  # fmt: skip


def places(document: Any, path: tuple = ()) -> Iterator[tuple]:
    """The paths of all values in a document, but its root."""
    entries = (
        document.items()
        if isinstance(document, dict)
        else enumerate(document)
        if isinstance(document, list)
        else ()
    )
    for key, value in entries:
        yield (*path, key)
        yield from places(value, (*path, key))


def holder(document: Any, path: tuple) -> Any:
    """What holds the value at a path."""
    for key in path[:-1]:
        document = document[key]
    return document


def drop(document: Any, path: tuple, _: random.Random) -> None:
    del holder(document, path)[path[-1]]


def retype(document: Any, path: tuple, draw: random.Random) -> None:
    holder(document, path)[path[-1]] = draw.choice(STRANGE)


def rename(document: Any, path: tuple, draw: random.Random) -> None:
    if isinstance(path[-1], str):
        at = draw.randrange(len(path[-1]))
        name = path[-1][:at] + draw.choice(["", "x", "é", ".", " "]) + path[-1][at + 1 :]
        inside = holder(document, path)
        inside[name] = inside.pop(path[-1])


def nest(document: Any, path: tuple, draw: random.Random) -> None:
    inside = holder(document, path)
    for _ in range(draw.choice([1, 2, 60])):
        inside[path[-1]] = draw.choice([{"a": inside[path[-1]]}, [inside[path[-1]]]])


def move(document: Any, path: tuple, draw: random.Random) -> None:
    other = draw.choice(list(places(document)))
    holder(document, path)[path[-1]] = yaml.safe_load(
        yaml.safe_dump(holder(document, other)[other[-1]])
    )


def strange_key(document: Any, path: tuple, draw: random.Random) -> None:
    inside = holder(document, path)
    if isinstance(inside, dict):
        inside[draw.choice([1, None, True, 1.5, "", "a" * 10_000, "é.ö", "__class__"])] = 1


VALUES: tuple[Callable[[Any, tuple, random.Random], None], ...] = (
    drop, retype, retype, retype, rename, nest, move, strange_key,
)  # fmt: skip


def spoilt_text(text: str, draw: random.Random) -> str:
    """The text of a file with something wrong in it as text."""
    lines, at = text.splitlines(keepends=True), draw.randrange(len(text))
    line = draw.randrange(len(lines))
    return draw.choice(
        [
            lambda: text[:at],
            lambda: text[:at] + draw.choice(TEXTS) + text[at:],
            lambda: draw.choice(TEXTS),
            lambda: text + draw.choice(TEXTS),
            lambda: "".join([*lines[:line], lines[line], *lines[line:]]),
            lambda: "".join([*lines[:line], "  " + lines[line], *lines[line + 1 :]]),
            lambda: text.replace(":", draw.choice([" ", "=", "::", ": &a "]), draw.choice([1, -1])),
            lambda: "".join(draw.sample(lines, len(lines))),
        ]
    )()


def study_file(text: str, seed: int) -> bytes:
    """A study file with something wrong in it, most probably."""
    draw = random.Random(seed)
    if draw.random() < 0.35:
        spoilt = spoilt_text(text, draw).encode("utf-8", "surrogatepass")
        return spoilt.replace(b"a", b"\xff", 1) if draw.random() < 0.1 else spoilt
    document = yaml.safe_load(text)
    for _ in range(draw.choice([1, 1, 2])):
        known = list(places(document))
        draw.choice(VALUES)(document, draw.choice(known), draw)
    return yaml.safe_dump(document, allow_unicode=True).encode("utf-8", "surrogatepass")


#: Scalars that YAML reads in some way of its own, or not at all.
SCALARS = (
    "2024-05-01", "2024-13-45", "2001-12-14t21:59:43.10-05:00", "010", "-017", "0o17", "1:30",
    "190:20:30", "1:30.5", ".inf", "-.INF", ".nan", "~", "yes", "No", "on", "OFF", "y", "Null", "",
    "=", "<<", "!!int x", "!!int ''", "!!float x", "!!bool x", "!!null x", "!!timestamp x",
    "!!binary aGk=", "!!binary '@'", "!!set {a, b}", "!!omap [a: 1]", "!!pairs [a: 1]",
    "!!python/object/apply:os.system ['true']", "!!python/name:os.system", "!!python/tuple [1]",
    "!mine 3", "! 5", "!!str {a: 1}", "!!map x", "!!seq {a: 1}", "9" * 400, "-" + "9" * 5000,
    "1e400", "-1e999", "1e-400", "0x", "0xffffffffffffffffffff", "0b12", "1_000", "1__0", "1,5",
    "12e03", "+1", "+.5", "1.", "&a [*a]", "*nothing", "&a", "{a: &b 1, c: *b}", "@x", "%x", "`x",
    "'a", '"a', '"\\x00"', '"\\ud800"', '"\\uDFFF"', '"\\e[31m"', "\x07", "\x00", "\x1b[0m", "\x85",
    "[", "{", "[1", "{a", "]", "a: b: c", "- a", "|\n", "? x", "\ta", "#", "[" * 60 + "]" * 60,
    "[" * 3000, "{a: " * 200, "é", "😀", "\u202eabc", "nan", "inf", "None", "true false", "1 2",
    "cuda:-1", "CPU", "Cuda:0", "../..", "a/b", "con", ".hidden", "-1", "9223372036854775808",
)  # fmt: skip

_LAUGHS = "l0: &l0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"l{i}: &l{i} [{', '.join([f'*l{i - 1}'] * 9)}]\n" for i in range(1, 12)
)


def yaml_scalars(text: str, seed: int) -> bytes:
    """A study file in which YAML meets something odd: a scalar, an encoding, a structure."""
    draw = random.Random(seed)
    lines = text.splitlines(keepends=True)
    keys = [i for i, line in enumerate(lines) if ":" in line and not line.lstrip().startswith("#")]
    for _ in range(draw.choice([1, 1, 1, 2])):
        at = draw.choice(keys)
        key, colon, rest = lines[at].partition(":")
        inside = draw.random() < 0.3 and "[" in rest
        value = draw.choice(SCALARS)
        lines[at] = rest and f"{key}{colon} {f'[{value}]' if inside else value}\n"
    made = "".join(lines)
    return draw.choice(
        [
            *[lambda: made.encode()] * 8,
            lambda: made.replace("\n", "\r\n").encode(),
            lambda: made.replace("\n", "\r").encode(),
            lambda: b"\xef\xbb\xbf" + made.encode(),
            lambda: made.encode("utf-16"),
            lambda: made.encode("utf-16-le"),
            lambda: made.encode("utf-32"),
            lambda: made.encode("latin-1", "replace") + b"# \xe9\xff\n",
            lambda: f"{made}---\n{made}".encode(),
            lambda: f"{_LAUGHS}{made}".encode(),
            lambda: f"{made}{lines[draw.choice(keys)]}".encode(),
            lambda: made.replace("  ", "\t").encode(),
            lambda: f"base: &base {{epochs: 3}}\n{made}search: {{<<: *base}}\n".encode(),
        ]
    )()


def table(content: str, seed: int) -> bytes:
    """A CSV table with something wrong in it, most probably."""
    draw = random.Random(seed)
    lines = content.splitlines()
    row = draw.randrange(1, len(lines))
    cell = draw.choice(
        ["nan", "inf", "", "93,5", '"93,5"', "9 3", "1_0", "٣٤", "1e3", "x" * 200_000, "-1"]
    )
    head, _, tail = lines[row].rpartition(",")
    changed = "\n".join([*lines[:row], f"{head},{cell}", *lines[row + 1 :]])
    shares = [
        ",".join([f[0], *(repr(float(v) / 100) for v in f[1:])])
        for f in (line.split(",") for line in lines[1:])
    ]
    return draw.choice(
        [
            *[lambda: changed.encode()] * 4,
            lambda: b"\xef\xbb\xbf" + content.encode(),
            lambda: content.replace("\n", "\r\n").encode(),
            lambda: content.replace(",", draw.choice([";", "\t", "|", ", "])).encode(),
            lambda: content.replace(".", ",").encode(),
            lambda: gzip.compress(content.encode()),
            lambda: content.encode(draw.choice(["utf-16", "utf-16-le", "utf-32"])),
            lambda: content.encode() + draw.choice([b"\xff", b"\0", b'"', b",", b"\n\n", b"a,b\n"]),
            lambda: content.replace(tail, f"{tail}\0", 1).encode(),
            lambda: "\n".join([lines[0], *shares]).encode(),
            lambda: "\n".join([*lines, lines[row]]).encode(),
            lambda: "\n".join([*lines, f"{head},1.25"]).encode(),
            lambda: "\n".join(lines[:row] + lines[row + 1 :]).encode(),
            lambda: "\n".join(lines[1:]).encode(),
            lambda: "\n".join([lines[0].replace("test", "Test"), *lines[1:]]).encode(),
            lambda: "\n".join([lines[0] + ",test", *lines[1:]]).encode(),
            lambda: content.replace("|", '"', 3).encode(),
            lambda: damaged(content.encode(), seed),
        ]
    )()


def damaged(content: bytes, seed: int) -> bytes:
    """The bytes of a file, damaged."""
    draw = random.Random(seed)
    at = draw.randrange(max(1, len(content)))
    page = content[: len(content) // 4096 * 4096]
    return draw.choice(
        [
            lambda: b"",
            lambda: content[:at],
            lambda: content[:-1],
            lambda: content[at:],
            lambda: draw.randbytes(len(content)),
            lambda: content[:at] + draw.randbytes(64) + content[at + 64 :],
            lambda: (
                content[:at] + bytes([content[at] ^ 1 << draw.randrange(8)]) + content[at + 1 :]
            ),
            lambda: b"\0" * len(content),
            lambda: content[:at] + b"\0" * 4096 + content[at + 4096 :],
            lambda: content + draw.randbytes(4096),
            lambda: draw.randbytes(100) + content[100:],
            lambda: page[: len(page) // 2],
        ]
    )()


# -- genotypes -------------------------------------------------------------------------------------

DARTS = (
    "sep_conv_3x3", "sep_conv_5x5", "dil_conv_3x3", "dil_conv_5x5", "max_pool_3x3", "avg_pool_3x3",
    "skip_connect",
)  # fmt: skip


def genotype_cells(draw: random.Random) -> dict[str, list[list[tuple[str, int]]]]:
    """The cells of a genotype of DARTS, by nodes."""
    return {
        kind: [
            [(draw.choice(DARTS), source) for source in sorted(draw.sample(range(target), 2))]
            for target in range(2, 6)
        ]
        for kind in ("normal", "reduction")
    }


def genotype_texts(cells: dict[str, list[list[tuple[str, int]]]]) -> list[str]:
    """The same genotype in all ways in which it can be written."""
    flat = {kind: [pair for node in nodes for pair in node] for kind, nodes in cells.items()}
    normal, reduce = flat["normal"], flat["reduction"]
    lines = "".join(f"    {pair!r},  # an edge\n" for pair in normal)
    nested = tuple(tuple(node) for node in cells["normal"])
    fields = {"normal": normal, "normal_concat": [2, 3, 4, 5], "reduce": reduce}
    choices = {
        f"{name}/{what}_{target}_{index}": value
        for kind, name in (("normal", "normal"), ("reduction", "reduce"))
        for target, node in enumerate(cells[kind], 2)
        for index, pair in enumerate(node)
        for what, value in zip(("op", "input"), pair, strict=True)
    }
    short = f"Genotype(normal={normal!r}, reduce={reduce!r})"
    order = "Genotype = namedtuple('Genotype', 'reduce normal')\nPRIMITIVES = ['none']\n"
    return [
        json.dumps({"search_space": "darts", "cells": cells}),
        json.dumps(fields | {"reduce_concat": [2, 3, 4, 5]}),
        json.dumps(choices),
        json.dumps({k: [v] if isinstance(v, int) else v for k, v in choices.items()}),
        short,
        f"# the best\nBEST: Genotype = {short}\nLATEST = BEST\n",
        f"Genotype(normal={normal!r}, normal_concat=[2, 3, 4, 5], reduce={reduce!r}, "
        "reduce_concat=range(2, 6))",
        f"Genotype({normal!r}, range(2, 6), {reduce!r}, list(range(2, 6)))",
        f"from collections import namedtuple\n{order}X = g.Genotype({reduce!r}, {normal!r})",
        f"'''Found.'''\nA = Genotype(\n  normal=[\n{lines}  ],\n  normal_concat=tuple(range(2, 6)),"
        f"\n  reduce={reduce!r}, reduce_concat=(2, 3, 4, 5),\n  connectN=None, connects=None)\n",
        f"Genotype(normal={nested!r}, normal_concat=range(2, 6, 1), reduce={reduce!r})",
    ]


#: What a part of a genotype's text may be replaced with, and with what.
_PARTS = (
    (r"\d+", ("0", "1", "2", "5", "6", "-1", "99", "1.0", "True", "None", "0x2", "9" * 5000)),
    (r"\[", ("[[", "(", "[None, ", "")),
    (r"\]", ("]]", ")", ", []]", "]]]", "")),
    (r"(sep|dil|max|avg|skip)_\w+", ("none", "nor_conv_3x3", "sep_conv_7x7", "é", "x" * 10**5)),
    (r"normal|reduce|reduction", ("normal", "reduce", "reduction", "normal_concat", "__x__")),
    (r"range\(2, 6", ("range(2, 5", "range(2, 10**9", "range(6", "range(2, 6, 0", "set(2, 6")),
    (r", ", (",, ", " ", "; ", ",\n#", " + ", "**")),
    (r"Genotype", ("genotype", "eval", "Genotype(Genotype", "", "Genotype.x")),
    (r"$", (" x", "\n\nB = A", ", extra=1)", "\nGenotype()", "\x00", "(" * 10**4, "-" * 10**5)),
    (r"^", ("x", "B = ", "[" * 10**5, "import os\n", "\ufeff", "{", "|none~0|", "-" * 9000)),
)  # fmt: skip


def genotype_file(seed: int) -> tuple[bytes, str]:
    """A genotype file with something wrong in it, most probably; and how its text was before."""
    draw = random.Random(seed)
    before = text = draw.choice(genotype_texts(genotype_cells(draw)))
    for _ in range(draw.choice([1, 1, 2])):
        pattern, replacements = draw.choice(_PARTS)
        found = list(re.finditer(pattern, text)) or [re.search("$", text)]
        place = draw.choice(found)
        text = text[: place.start()] + draw.choice(replacements) + text[place.end() :]
    content = text.encode("utf-8", "surrogatepass")
    return damaged(content, seed) if draw.random() < 0.1 else content, before
