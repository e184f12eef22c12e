"""Waiting trials added to a study in one transaction, or none of them.

Optuna's ``add_trial`` and ``add_trials`` take a transaction, a count of all trials before and two
statements an attribute for each trial, and cannot be told to add nothing where another process was
faster. This writes the same rows of Optuna's own tables, under the lock that Optuna takes too.
"""

import json
from collections.abc import Sequence
from typing import Any

from optuna.distributions import distribution_to_json
from optuna.storages import RDBStorage
from optuna.storages._rdb import models
from optuna.trial import FrozenTrial
from sqlalchemy import insert, select
from sqlalchemy.orm import Session

Row = dict[str, Any]


def add(storage: RDBStorage, study: int, trials: Sequence[FrozenTrial], after: int) -> bool:
    """Add trials, if none has been added since those that are known.

    Args:
        storage: The storage.
        study: Its number of the study.
        trials: The trials, with their parameters and attributes; one may not have ended yet.
        after: How many trials of the study are known.

    Returns:
        Whether they were added.
    """
    latest = (
        select(models.TrialModel.number)
        .where(models.TrialModel.study_id == study)
        .order_by(models.TrialModel.trial_id.desc())
        .limit(1)
    )
    with Session(storage.engine) as session, session.begin():
        models.StudyModel.find_or_raise_by_id(study, session, for_update=True)
        last = session.execute(latest).scalar()
        if (-1 if last is None else last) + 1 != after:
            return False
        found = [
            models.TrialModel(study_id=study, number=after + index, state=trial.state)
            for index, trial in enumerate(trials)
        ]
        session.add_all(found)
        session.flush()  # which numbers the rows
        for model, rows in _rows([int(row.trial_id) for row in found], trials).items():
            if rows:
                session.execute(insert(model), rows)
        return True


def _rows(numbers: Sequence[int], trials: Sequence[FrozenTrial]) -> dict[type[Any], list[Row]]:
    """The rows of the trials' parameters and attributes, given the storage's own numbers."""
    parameters = [
        {
            "trial_id": number,
            "param_name": name,
            "param_value": trial.distributions[name].to_internal_repr(value),
            "distribution_json": distribution_to_json(trial.distributions[name]),
        }
        for number, trial in zip(numbers, trials, strict=True)
        for name, value in trial.params.items()
    ]
    attributes = [
        {"trial_id": number, "key": name, "value_json": json.dumps(value)}
        for number, trial in zip(numbers, trials, strict=True)
        for name, value in trial.user_attrs.items()
    ]
    return {models.TrialParamModel: parameters, models.TrialUserAttributeModel: attributes}
