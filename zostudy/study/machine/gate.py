"""The check that stands before a study: once for each machine, and nothing runs without it."""

from collections.abc import Callable, Sequence

from zostudy.config.loading import StudyFile
from zostudy.config.settings import RuntimeSettings
from zostudy.errors import ConfigError
from zostudy.study.machine import cases as shapes
from zostudy.study.machine.check import PASSED, check
from zostudy.study.machine.passed import Passed
from zostudy.study.machine.process import Context, Setting


def setting(file: StudyFile, device: str = "study") -> Setting:
    """How a study computes.

    Args:
        file: The study.
        device: The device; ``study`` for that of the study file.
    """
    other = {} if device == "study" else {"device": device}
    runtime: RuntimeSettings = file.config.runtime.model_copy(update=other)
    return Setting(runtime, file.config.extensions)


def require(
    context: Context, file: StudyFile, devices: Sequence[str], say: Callable[[str], None]
) -> str:
    """Let a study go on only where its operations are computed correctly.

    What has passed on a machine of this kind passes without being computed again.

    Args:
        context: What makes the processes that compute them.
        file: The study.
        devices: The devices of its workers; ``study`` for that of the study file.
        say: Prints a line.

    Returns:
        How the machine stands, for the runs of the trials.

    Raises:
        ConfigError: An operation is computed wrongly, or the check came to no end.
    """
    cases, passed = shapes.of_study(file), Passed(file.folder)
    for device in dict.fromkeys(devices):
        how = setting(file, device)
        if passed.known(cases, how):
            continue
        say(f"machine: comparing {len(cases)} operations and shapes with float64, once")
        verdict = check(context, cases, how)
        if verdict.findings:
            lines = [f"machine: {finding}" for finding in verdict.findings]
            raise ConfigError("\n".join(lines) + "; --skip-check runs the study regardless")
        passed.keep(cases, how)
    return PASSED
