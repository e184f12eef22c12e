"""Which operations this machine computes wrongly, and what to set so that it does not."""

import multiprocessing
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from zostudy.config.settings import RuntimeSettings
from zostudy.study.machine.cases import Case
from zostudy.study.machine.process import Answer, Context, Report, Setting, Trouble, ask

#: Tags of a trial's run: whether the machine had passed, or nobody had asked.
PASSED, SKIPPED = "passed", "skipped"

#: Seconds that one case may take; it takes hundredths of one.
LIMIT = 30.0

#: Findings after which no others are looked for, of those that end the process.
_ENOUGH = 3

#: How many cases before a crash are looked at, and how often each is computed then.
_BACK, _AGAIN = 12, 20

#: Largest instruction sets that the library under torch may use, to be tried in this order.
_INSTRUCTIONS = ("AVX2", "AVX", "SSE41")

Kind = Literal["wrong", "error", "crash", "hang", "memory"]


@dataclass(frozen=True)
class Finding:
    """Something that this machine cannot do.

    Attributes:
        kind: ``wrong``: what it computes is not what float64 gives; ``error``: it raises;
            ``crash``, ``hang`` or ``memory``: its process does not come to an end by itself.
        case: The operation and its shape; nothing where the process had not begun.
        what: What is wrong, in one line.
        advice: What to set, in one line.
    """

    kind: Kind
    case: Case | None
    what: str
    advice: str = ""

    def __str__(self) -> str:
        place = f"{self.case}: " if self.case else ""
        return f"{place}{self.what}" + (f"; {self.advice}" if self.advice else "")

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        return {**asdict(self), "text": str(self)}


@dataclass(frozen=True)
class Verdict:
    """What a check has found.

    Attributes:
        cases: The cases that were looked at.
        findings: What is wrong.
        unchecked: For cases that cannot be computed in float64, why, in one line.
    """

    cases: Sequence[Case]
    findings: list[Finding] = field(default_factory=list)
    unchecked: dict[Case, str] = field(default_factory=dict)


def check(
    context: Context,
    cases: Sequence[Case],
    setting: Setting,
    limit: float = LIMIT,
    repeats: int = 1,
) -> Verdict:
    """Compare cases with float64, as they are computed here.

    Args:
        context: What makes the processes that compute them.
        cases: The cases.
        setting: Device, precision, threads and extensions.
        limit: Seconds that a case may take.
        repeats: How many draws of pictures and weights are compared.

    Raises:
        InputError: The device is not there.
    """
    verdict = Verdict(cases)
    left = list(cases)
    ended = 0
    while left:
        report = ask(context, left, setting, limit, repeats)
        for place, answer in report.answers.items():
            _judge(verdict, left[place], answer)
        trouble = report.trouble
        if trouble is None:
            break
        ended += 1
        if trouble.at is None or ended == _ENOUGH:
            case = None if trouble.at is None else left[trouble.at]
            verdict.findings.append(Finding(trouble.kind, case, trouble.what))
            break
        blamed, trouble = _pinned(context, left, setting, limit, trouble)
        verdict.findings.append(Finding(trouble.kind, blamed, trouble.what))
        answered = {left[place] for place in report.answers} | {blamed}
        left = [case for case in left if case not in answered]
    return _advised(verdict, setting, limit)


def _judge(verdict: Verdict, case: Case, answer: Answer) -> None:
    if answer.unchecked:
        verdict.unchecked[case] = answer.unchecked
    elif answer.failed:
        kind: Kind = "memory" if answer.short else "error"
        text = "out of memory" if answer.short else "cannot be computed"
        verdict.findings.append(Finding(kind, case, f"{text} ({answer.failed})"))
    elif answer.wrong:
        worst = max(answer.wrong, key=lambda wrong: wrong.off / wrong.rounding)
        others = len(answer.wrong) - 1
        further = f" ({others} more of its tensors are wrong)" if others else ""
        what = (
            f"{worst.what} is off by {_percent(worst.off)} of its norm from float64, of which "
            f"rounding explains {_percent(worst.rounding)}{further}"
        )
        verdict.findings.append(Finding("wrong", case, what))


def _percent(part: float) -> str:
    return f"{100 * part:.2g} %" if part < float("inf") else "more than any number"


def _pinned(
    context: Context, cases: Sequence[Case], setting: Setting, limit: float, trouble: Trouble
) -> tuple[Case, Trouble]:
    """The case that is to blame for a crash, which may show later than it happens.

    The one that was being computed is tried first, then those before it, each by itself and often.
    """
    at = trouble.at or 0
    if trouble.kind != "crash":
        return cases[at], trouble
    for place in range(at, max(-1, at - _BACK), -1):
        report = ask(context, [cases[place]], setting, limit, _AGAIN)
        if report.trouble is not None:
            return cases[place], report.trouble
    return cases[at], trouble


def _advised(verdict: Verdict, setting: Setting, limit: float) -> Verdict:
    """The findings with what to set, found by trying it."""
    of_case = [f for f in verdict.findings if f.case and f.kind in ("wrong", "crash")]
    cases = list(dict.fromkeys(finding.case for finding in of_case if finding.case))
    if not cases:
        return verdict
    advice = _what_helps(cases, setting, limit)
    findings = [
        Finding(f.kind, f.case, f.what, advice) if f in of_case else f for f in verdict.findings
    ]
    return Verdict(verdict.cases, findings, verdict.unchecked)


def _what_helps(cases: Sequence[Case], setting: Setting, limit: float) -> str:
    tried = []
    for name, environment, runtime in _changes(setting.runtime):
        tried.append(name)
        with _set(environment):
            context = multiprocessing.get_context("spawn")  # reads the environment anew
            report = ask(context, cases, Setting(runtime, setting.extensions), limit, 3)
        if _is_right(report, len(cases)):
            return f"set {name}, with which it is right here"
    tested = f" ({', '.join(tried)} were tried)" if tried else ""
    return (
        f"nothing that can be set helps{tested}; leave the operation out, or use another device or "
        "another version of torch"
    )


def _is_right(report: Report, count: int) -> bool:
    answers = report.answers.values()
    return (
        report.trouble is None
        and len(report.answers) == count
        and not any(answer.wrong or answer.failed for answer in answers)
    )


def _changes(
    runtime: RuntimeSettings,
) -> Iterator[tuple[str, dict[str, str], RuntimeSettings]]:
    """What may help: its name, variables of the environment, and settings."""
    from zostudy.runtime import planned

    if planned(runtime).device.type == "cpu":
        for instructions in _INSTRUCTIONS:
            variable = {"ONEDNN_MAX_CPU_ISA": instructions}
            yield f"ONEDNN_MAX_CPU_ISA={instructions}", variable, runtime
        if runtime.threads > 1:
            yield "runtime.threads=1", {}, runtime.model_copy(update={"threads": 1})
    if runtime.precision != "fp32":
        yield "runtime.precision=fp32", {}, runtime.model_copy(update={"precision": "fp32"})


@contextmanager
def _set(variables: dict[str, str]) -> Iterator[None]:
    """Variables of the environment, for processes that are started meanwhile."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
