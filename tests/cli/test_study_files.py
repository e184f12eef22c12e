import json
import subprocess
import sys
import textwrap

import pytest

from tests.cli.stand_in import STUDY
from zostudy.config.loading import load
from zostudy.registry import components


def test_a_valid_study_is_said_to_be_valid(zostudy, study):
    code, out, err = zostudy("validate", study)
    assert (code, err) == (0, "")
    assert out.endswith("small.yaml: valid; study 'small', 4 trials\n")
    code, out, _ = zostudy("validate", study, "--json", "--set", "sweep.seeds=[3]")
    assert json.loads(out) == {
        "study": "small",
        "valid": True,
        "points": 2,
        "seeds": [3],
        "trials": 2,
    }


@pytest.mark.parametrize("command", ["validate", "plan", "run", "results"])
def test_mistakes_are_lines_on_stderr_with_exit_code_2_and_nothing_is_written(
    zostudy, study, command, tmp_path
):
    study.write_text(STUDY.replace("epochs: 2, w", "epoch: 3, epochs: 2, w") + "serach: {}\n")
    code, out, err = zostudy(command, study)
    assert (code, out) == (2, "")
    assert err.splitlines() == [
        "error: search.epoch: unknown key; did you mean 'epochs'?",
        "error: serach: unknown key; did you mean 'search'?",
    ]
    assert list(tmp_path.iterdir()) == [study]


def test_a_wrong_combination_of_the_sweep_is_found_before_running(zostudy, study, tmp_path):
    parameters = "{search.epochs: [40, 20], search.warmup_epochs: [2, 30]}"
    for command in ("validate", "run"):
        code, _, err = zostudy(
            command, study, "--set", f"sweep.parameters={parameters}", "--set", "prune.xi=0.5"
        )
        assert code == 2
        assert "(at the point search.epochs=20 search.warmup_epochs=30)" in err
    assert list(tmp_path.iterdir()) == [study]


@pytest.mark.parametrize("dataset", list(components("dataset")))
def test_a_new_study_is_valid_whatever_its_data_set(zostudy, dataset, tmp_path):
    code, out, _ = zostudy("new", "my-study", "--dataset", dataset)
    assert (code, out) == (0, "wrote my-study.yaml; next: zostudy run my-study.yaml\n")
    config = load(tmp_path / "my-study.yaml").config
    assert (config.study, config.dataset.name) == ("my-study", dataset)
    assert zostudy("validate", "my-study.yaml")[0] == 0


def test_a_new_study_overwrites_nothing(zostudy, study):
    code, _, err = zostudy("new", study)
    assert code == 2
    assert "small.yaml: is there already; choose another name" in err
    assert study.read_text() == STUDY


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["new", "../.."], "error: study: '..' is not allowed"),
        (["new", "nosuch/folder/name"], "cannot be written (No such file or directory)"),
        (["new", "x", "--dataset", "digit"], "unknown dataset 'digit'; did you mean 'digits'?"),
    ],
)
def test_a_new_study_with_a_wrong_name_is_refused(zostudy, arguments, message, tmp_path):
    code, _, err = zostudy(*arguments)
    assert code == 2
    assert message in err
    assert list(tmp_path.iterdir()) == []


def test_the_schema_is_json(zostudy):
    code, out, _ = zostudy("schema")
    assert code == 0
    assert "properties" in json.loads(out)


@pytest.mark.parametrize(
    ("arguments", "heavy"),
    [
        (["--help"], ["torch", "mlflow", "optuna", "numpy", "pydantic"]),
        (["run", "--help"], ["torch", "mlflow", "optuna", "numpy"]),
        (["validate", "small.yaml"], ["torch", "mlflow", "optuna", "numpy"]),
        (["schema"], ["torch", "mlflow", "optuna", "numpy"]),
        (["new", "other"], ["torch", "mlflow", "optuna", "numpy"]),
        (["results", "small.yaml"], ["torch", "mlflow"]),
        pytest.param(["plan", "small.yaml"], ["mlflow"], marks=pytest.mark.slow),
    ],
)
@pytest.mark.usefixtures("study")
def test_a_command_imports_only_what_it_uses(arguments, heavy, tmp_path):
    code = textwrap.dedent(f"""
        import sys
        sys.argv = ["zostudy", *{arguments!r}]
        from zostudy.cli import main
        try:
            main()
        except SystemExit as ended:
            assert not ended.code, ended.code
        print([m for m in {heavy!r} if m in sys.modules], file=sys.stderr)
    """)
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stderr == "[]\n"
