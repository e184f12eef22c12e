"""Commands that keep a study in order: doctor."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from zostudy.cli.app import AsJson, Assignments, StudyPath, app, load_study, print_json

if TYPE_CHECKING:
    from zostudy.study.doctor import Result


@app.command()
def doctor(
    study: StudyPath,
    assignments: Assignments,
    repair: Annotated[bool, typer.Option("--repair", help="Put right what can be.")] = False,
    as_json: AsJson = False,
) -> None:
    """Compare Optuna, MLflow, cache, checkpoints and journals; list what disagrees."""
    from zostudy.study import doctor as doctors

    file = load_study(study, assignments)
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
