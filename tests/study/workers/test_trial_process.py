import json
import sys
import types

from zostudy.config.loading import from_document
from zostudy.study import points
from zostudy.study.points import TrialOutcome
from zostudy.study.workers import trial_process


def test_a_trial_has_the_precision_and_the_ingredients_of_its_point(monkeypatch):
    seen = []

    class Trials:
        known: dict[str, int] = {}  # noqa: RUF012  # as that of the real one

        def __init__(self, file, _report, **_further):
            self.runtime = file.config.runtime

        def __call__(self, point, seed, number):
            seen.append((self.runtime.precision, point.config.runtime.precision, point.made_of))
            return TrialOutcome({}, {}, f"run-{number}-{seed}")

    engine = types.SimpleNamespace(Trials=Trials)
    monkeypatch.setitem(sys.modules, "zostudy.study.trial.trial", engine)
    parameters = {"runtime.precision": ["fp32", "bf16"]}
    file = from_document({"study": "s", "sweep": {"parameters": parameters}})
    for point in points.grid(file):
        made = points.Point(point.values, point.config, point.key, made_of={"data": "d"})
        told = json.loads(trial_process.job(file, made, 0, 1))
        trial_process._run(told, None)
    assert seen == [(precision, precision, {"data": "d"}) for precision in ("fp32", "bf16")]
