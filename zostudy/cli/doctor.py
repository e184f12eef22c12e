"""Commands that keep a study in order: doctor."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from zostudy.cli.app import AsJson, Assignments, Device, app, load_study, print_json
from zostudy.errors import ConfigError

if TYPE_CHECKING:
    from zostudy.config.loading import StudyFile
    from zostudy.study.doctor import Result
    from zostudy.study.machine.cases import Case
    from zostudy.study.machine.check import Verdict
    from zostudy.study.machine.process import Setting


@app.command()
def doctor(
    assignments: Assignments,
    study: Annotated[
        Path | None,
        typer.Argument(metavar="[STUDY]", help="The study file (YAML); --machine needs none."),
    ] = None,
    repair: Annotated[bool, typer.Option("--repair", help="Put right what can be.")] = False,
    machine: Annotated[
        bool,
        typer.Option(
            "--machine",
            help="Compare what this machine computes with float64 instead: every operation, in the "
            "study's shapes, or in usual ones.",
        ),
    ] = False,
    device: Device = "study",
    time_limit: Annotated[
        float,
        typer.Option(min=0.1, metavar="SECONDS", help="--machine: the most for one operation."),
    ] = 30.0,
    as_json: AsJson = False,
) -> None:
    """Compare Optuna, MLflow, cache, checkpoints and journals; list what disagrees."""
    if study is None and not machine:
        raise ConfigError("STUDY: is missing; doctor needs a study file, or --machine")
    if machine and repair:
        raise ConfigError("--repair: has no effect with --machine; leave one of them out")
    file = load_study(study, assignments) if study else None
    if file is None and assignments:
        raise ConfigError(f"--set {assignments[0]}: needs a study file; name STUDY")
    if machine:
        _examine_machine(file, device, time_limit, as_json=as_json)
    elif file is not None:
        _examine_study(file, repair=repair, as_json=as_json)


#: How many draws of pictures and weights are compared; before a study it is one.
_DRAWS = 3


def _examine_machine(file: "StudyFile | None", device: str, limit: float, *, as_json: bool) -> None:
    """Say what the machine computes wrongly.

    Raises:
        typer.Exit: With 1 where something is wrong, with 2 where the check came to no end.
    """
    from zostudy.study.workers import trial_process

    server = trial_process.start_server()

    from zostudy.runtime import prepare
    from zostudy.study.machine.check import check

    cases, setting = _of_machine(file, device)
    prepare(setting.runtime)  # says what is wrong with the device
    verdict = check(server, cases, setting, limit, repeats=_DRAWS)
    if as_json:
        print_json(_machine_document(file, setting, verdict))
    else:
        _print_verdict(verdict)
    if any(finding.kind in ("crash", "hang", "memory") for finding in verdict.findings):
        raise typer.Exit(2)
    if verdict.findings:
        raise typer.Exit(1)


def _of_machine(file: "StudyFile | None", device: str) -> "tuple[list[Case], Setting]":
    """What is compared, and how it is computed."""
    from zostudy.config.settings import RuntimeSettings
    from zostudy.study.machine import cases, gate
    from zostudy.study.machine.process import Setting

    if file is not None:
        return cases.of_study(file), gate.setting(file, device)
    named = {} if device == "study" else {"device": device}
    return cases.of_every_space(), Setting(RuntimeSettings.model_validate(named))


def _print_verdict(verdict: "Verdict") -> None:
    for finding in verdict.findings:
        typer.echo(f"machine: {finding}")
    for case, reason in verdict.unchecked.items():
        typer.echo(f"machine: {case}: was not compared, float64 cannot compute it ({reason})")
    wrong = len(verdict.findings)
    found = f"{wrong} found" if wrong else "nothing is wrong"
    count = len(verdict.cases)
    typer.echo(f"machine: {count} operations and shapes compared with float64: {found}")


def _machine_document(
    file: "StudyFile | None", setting: "Setting", verdict: "Verdict"
) -> dict[str, Any]:
    from zostudy.study.machine import passed

    return {
        "study": file.config.study if file else None,
        "machine": passed.machine(setting.runtime),
        "compared": len(verdict.cases),
        "wrong": len(verdict.findings),
        "findings": [finding.to_dict() for finding in verdict.findings],
        "unchecked": [
            {"case": str(case), "reason": reason} for case, reason in verdict.unchecked.items()
        ],
    }


def _examine_study(file: "StudyFile", *, repair: bool, as_json: bool) -> None:
    """Say what disagrees, and put it right if that is wanted.

    Raises:
        typer.Exit: With 1 where something stays wrong.
    """
    from zostudy.study import doctor as doctors

    results = (doctors.repair if repair else doctors.examine)(file)
    notes = doctors.notes(file)
    wrong = sum(not result.repaired for result in results)
    if as_json:
        findings = [_document(result) for result in results]
        said = {"notes": list(notes)} if notes else {}
        print_json({"study": file.config.study, "wrong": wrong, "findings": findings} | said)
    else:
        for result in results:
            typer.echo(_line(result, repair=repair))
        for note in notes:
            typer.echo(f"note: {note}")
        typer.echo(_summary(file.config.study, len(results), wrong, repair=repair))
    if wrong:
        raise typer.Exit(1)


def _line(result: "Result", *, repair: bool) -> str:
    finding = result.finding
    line = f"{finding.kind}: {finding.what}"
    if not repair:
        return f"{line}; --repair {finding.remedy}"
    if not result.repaired:
        return f"{line}; not repaired: {result.left}"
    return f"{line}; repaired" + (f", but {result.left}" if result.left else "")


def _summary(study: str, found: int, wrong: int, *, repair: bool) -> str:
    if not found:
        return f"study {study!r}: nothing is wrong"
    if repair:
        return f"study {study!r}: {found - wrong} of {found} repaired"
    return f"study {study!r}: {found} found"


def _document(result: "Result") -> dict[str, Any]:
    return {
        "kind": result.finding.kind,
        "what": result.finding.what,
        "remedy": result.finding.remedy,
        "repaired": result.repaired,
        "left": result.left,
    }
