"""What is recorded of a trial: all that it is run again from, and all that it gave.

A study's trial has its settings, seed, outcome and ingredients in the study file and Optuna's
storage; the course of its epochs is in its run in MLflow or, where that cannot be read, in the
cache. A run in MLflow has all of it by itself. Nothing of either is written to.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from zostudy.config.document import Document
from zostudy.config.loading import StudyFile, from_document, to_document
from zostudy.config.settings import TrialConfig
from zostudy.errors import ConfigError
from zostudy.redaction import without_passwords
from zostudy.study import points
from zostudy.study.delivery.recorded_run import RecordedRun, read
from zostudy.study.identity.today import Today
from zostudy.study.ingredients import OF_LATENCY, Difference, Ingredients, shown, title
from zostudy.study.reproduction import comparison
from zostudy.study.reproduction.comparison import Course
from zostudy.study.trial.computing import Report
from zostudy.study.trial.trial import Trials

#: Ingredients that a run's tags name; the others are paths of settings, which have a dot.
_INGREDIENTS = ("data", "engine", "device", "extensions")
_TAG = "zostudy."
#: What a trial need not have again: another device is named as a reason, its latency is left out.
_ELSEWHERE = ("device", *OF_LATENCY)


@dataclass(frozen=True)
class Recorded:
    """A trial as it is recorded.

    Attributes:
        name: What it is called in sentences.
        study: The name of its study.
        config: Its settings.
        seed: Its seed.
        made_of: Its ingredients; empty where a version of zostudy ran it that recorded none.
        environment: Versions and machine of its run; empty where they are not there.
        courses: For each phase but the latency's what is known of it; each is compared.
        course_of: Where the course of its epochs is from: ``MLflow``, ``cache``, or nothing.
        notes: What is to be said of the record itself.
    """

    name: str
    study: str
    config: TrialConfig
    seed: int
    made_of: Ingredients
    environment: Mapping[str, str]
    courses: Mapping[str, Sequence[Course]]
    course_of: str
    notes: tuple[str, ...]


def of_study(file: StudyFile, trial: Mapping[str, Any], report: Report) -> Recorded:
    """A complete trial of a study.

    Args:
        file: The study.
        trial: The trial as `results` lists it.
        report: What the cache is opened with; it is not called.

    Raises:
        ConfigError: What the trial used is not here.
    """
    name = f"trial {trial['number']}"
    values, seed = trial["params"], trial["seed"]
    point = points.point(file, values)
    made_of: Ingredients = trial.get("made_of", {})
    _check_here(name, made_of, file.made_of(point.config))
    notes = _unrecorded(made_of)
    outcome = comparison.of_outcome(trial["metrics"], trial["genotype"])
    run: RecordedRun | None = None
    try:
        run = read(file.config.tracking.uri, trial["mlflow_run_id"] or "")
    except ConfigError as error:
        notes.append(f"its run in MLflow was not compared: {error}")
    if run is not None and run.phases:
        known, course_of = _courses(run), "MLflow"
        notes += _other_settings(point.config, seed, run)
    else:
        plain = replace(point, config=point.config.changed("latency", by="none"))
        kept = Trials(file, report).records(plain, seed)
        known = {name: comparison.of_values(name, r.values) for name, r in kept.items()}
        course_of = "cache" if known else ""
    return Recorded(
        name,
        file.config.study,
        point.config,
        seed,
        made_of,
        run.files.get("environment", {}) if run else {},
        _joined(known, outcome),
        course_of,
        tuple(notes),
    )


def of_run(uri: str, run_id: str) -> Recorded:
    """A trial by its run in MLflow.

    Args:
        uri: MLflow tracking URI.
        run_id: MLflow's id of the run.

    Raises:
        ConfigError: It is no run of a complete trial, its settings are not there, or what the
            trial used is not here.
    """
    run = read(uri, run_id)
    _check_trial(run)
    settings = dict(run.files.get("settings", {}))
    seed = settings.pop("seed", None)
    if not isinstance(seed, int):
        raise ConfigError(
            f"run {run_id!r}: settings.json, which holds its settings and seed, cannot be read"
        )
    study = run.tags.get("zostudy.study", "reproduced")
    config = alone(study, settings).config
    own = {tag.removeprefix(_TAG): value for tag, value in run.tags.items() if _is_ingredient(tag)}
    name = f"run {run_id}"
    _check_here(name, own, Today(alone(study, settings).folder)(config))
    notes = _unrecorded(own)
    told = run.params.get("seed", str(seed))
    if told != str(seed):
        notes.append(f"the seed is {seed} in settings.json and {told} in the run's parameters")
    return Recorded(
        name,
        study,
        config,
        seed,
        own,
        run.files.get("environment", {}),
        _joined(_courses(run), comparison.of_trial_run(run)),
        "MLflow" if run.phases else "",
        tuple(notes),
    )


def alone(study: str, settings: Document, folder: str = ".zostudy") -> StudyFile:
    """A study of one point that has these settings.

    Args:
        study: Its name.
        settings: Settings of a trial, as `to_document` gives them.
        folder: Its own folder; its journals stay there.

    Raises:
        ConfigError: They are not right.
    """
    base = from_document({"study": study, "sweep": {"objectives": []}})
    trial = replace(base, document=settings).trial({})
    config = base.config.model_copy(
        update={name: getattr(trial, name) for name in TrialConfig.model_fields}
        | {
            "storage": base.config.storage.model_copy(update={"folder": folder}),
            "tracking": base.config.tracking.model_copy(update={"uri": "sqlite://"}),
        }
    )
    return StudyFile(settings, config)


def _is_ingredient(tag: str) -> bool:
    name = tag.removeprefix(_TAG)
    return tag.startswith(_TAG) and (name in _INGREDIENTS or "." in name)


def _check_trial(run: RecordedRun) -> None:
    """Whether a run is that of a complete trial.

    Raises:
        ConfigError: It is not.
    """
    place = f"run {run.run_id!r}"
    if run.parent:
        raise ConfigError(f"{place}: is of a phase; the run of its trial is {run.parent}")
    if "zostudy.trial" not in run.tags:
        raise ConfigError(f"{place}: is not of a trial; allowed: the run of a complete trial")
    if run.status != "FINISHED" or "zostudy.state" in run.tags:
        state = run.tags.get("zostudy.state", run.status)
        why = run.tags.get("zostudy.reason", "")
        raise ConfigError(
            f"{place}: its trial is not complete ({state}{f': {why}' if why else ''})"
        )


def _check_here(name: str, then: Ingredients, now: Ingredients) -> None:
    """Whether what a trial is made of is here, but for what it need not have again.

    Raises:
        ConfigError: Something is another, or not here.
    """
    then, now = needed(then), needed(now) if then else {}
    changed = [
        Difference(n, then.get(n, ""), now.get(n, ""))
        for n in dict.fromkeys([*then, *now])
        if then.get(n, "") != now.get(n, "")
    ]
    if changed:
        what = "; ".join(
            f"{title(d.name)} was {shown(d.then)} then and is {shown(d.now)} now" for d in changed
        )
        raise ConfigError(
            f"{name}: cannot be reproduced with what is here: {what}; bring back what it used"
        )


def needed(made_of: Ingredients) -> Ingredients:
    """The ingredients that a trial needs again."""
    return {name: value for name, value in made_of.items() if name not in _ELSEWHERE}


def _unrecorded(made_of: Ingredients) -> list[str]:
    if made_of:
        return []
    return ["it was run by a version of zostudy that did not record what it is made of"]


def _other_settings(config: TrialConfig, seed: int, run: RecordedRun) -> list[str]:
    """By what a trial's settings differ from those that its run has."""
    there = run.files.get("settings")
    if not isinstance(there, dict):
        return []
    here = without_passwords(to_document(config) | {"seed": seed})
    return [
        f"{name} is {here.get(name)!r} in the study's record and {there.get(name)!r} in its run"
        for name in dict.fromkeys([*here, *there])
        if here.get(name) != there.get(name)
    ]


def _courses(run: RecordedRun) -> dict[str, Course]:
    return {name: comparison.of_run(name, phase) for name, phase in run.phases.items()}


def _joined(
    known: Mapping[str, Course], outcome: Mapping[str, Course]
) -> dict[str, tuple[Course, ...]]:
    return {
        phase: tuple(own[phase] for own in (known, outcome) if phase in own)
        for phase in outcome
        if phase != "latency"
    }
