"""Names, addresses and paths that a study file may hold: those that their users can take.

File systems, MLflow's and Optuna's databases and torch each have words that they refuse, and they
say so late and in words of their own.
"""

import re
from typing import Annotated

from pydantic import AfterValidator, Field, WithJsonSchema

from zostudy.paths import PATH_ALLOWED, path_problem

#: The longest name of an experiment; its folder of artifacts has it as its name.
_LONGEST_EXPERIMENT = 200
_STORAGES = ("sqlite", "postgresql", "mysql")


def _fits_a_file_system(path: str) -> str:
    if path_problem(path):
        raise ValueError(path_problem(path))
    return path


def _names_an_experiment(name: str) -> str:
    if not name.strip() or name != name.strip() or not name.isprintable():
        raise ValueError("is blank, begins or ends with a space, or holds a control character")
    return name


def _is_a_storage(url: str) -> str:
    match = re.match(r"([a-z]+)(\+[a-z0-9_]+)?://", url)
    if match is None or match[1] not in _STORAGES or "\n" in url:
        raise ValueError("is no storage")
    return url


def _is_an_address(uri: str) -> str:
    if not uri.strip() or "\n" in uri:
        raise ValueError("is no address")
    return uri


def _schema(allowed: str, **facts: object) -> WithJsonSchema:
    """What the JSON schema says of a text, and the words for it in a message."""
    return WithJsonSchema({"type": "string", **facts, "x-allowed": allowed})


#: The word for a device, as a pattern and in words.
DEVICE = r"^(auto|cpu|cuda|cuda:(0|[1-9][0-9]?))$"
DEVICE_ALLOWED = "auto, cpu, cuda or cuda:N (N from 0 to 99)"
_STUDY = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$"
#: The word for a device.
Device = Annotated[
    str,
    Field(pattern=DEVICE),
    _schema(DEVICE_ALLOWED, pattern=DEVICE),
]
#: The name of a study, which files and folders begin with.
StudyName = Annotated[
    str,
    Field(pattern=_STUDY),
    _schema(
        "1 to 100 letters (A to Z, a to z), digits, dots, dashes and underscores, the first of "
        "them a letter or a digit",
        pattern=_STUDY,
    ),
]
#: A path of a file; empty for none.
FileName = Annotated[str, AfterValidator(_fits_a_file_system), _schema(PATH_ALLOWED)]
#: A path of a folder.
FolderName = Annotated[
    str,
    Field(min_length=1),
    AfterValidator(_fits_a_file_system),
    _schema(PATH_ALLOWED, minLength=1),
]
_WORD = r"^$|^[A-Za-z0-9][A-Za-z0-9._:/@-]{0,254}$"
#: A word that schedulers take: of a partition, an image, a volume; empty where there is none.
Word = Annotated[
    str,
    Field(pattern=_WORD),
    _schema("letters, digits and . _ : / @ -, the first a letter or digit", pattern=_WORD),
]
#: The name of an MLflow experiment.
ExperimentName = Annotated[
    str,
    Field(min_length=1, max_length=_LONGEST_EXPERIMENT),
    AfterValidator(_names_an_experiment),
    _schema(
        f"1 to {_LONGEST_EXPERIMENT} printable characters, no space first or last",
        minLength=1,
        maxLength=_LONGEST_EXPERIMENT,
    ),
]
#: The address of Optuna's storage.
StorageUrl = Annotated[
    str,
    AfterValidator(_is_a_storage),
    _schema(f"a database URL that begins with {', '.join(f'{s}://' for s in _STORAGES)}"),
]
#: The address of MLflow's store.
TrackingUri = Annotated[
    str,
    AfterValidator(_is_an_address),
    _schema("an MLflow tracking URI in one line, or 'default'"),
]
