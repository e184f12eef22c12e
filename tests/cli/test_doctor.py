import json
from pathlib import Path

import pytest


@pytest.mark.parametrize(
    ("operation", "code", "kinds"),
    [("right", 0, set()), ("lies", 1, {"wrong"}), ("aborts", 2, {"crash"})],
)
def test_doctor_machine_says_by_its_exit_code_what_kind_of_thing_is_wrong(
    zostudy, told, operation, code, kinds
):
    found, out, _ = zostudy("doctor", "--machine", str(told(operation)), "--json")
    document = json.loads(out)
    assert found == code
    assert {finding["kind"] for finding in document["findings"]} == kinds
    assert document["wrong"] == len(document["findings"])
    assert document["study"] == "s"
    assert document["machine"]["device"] == "cpu"
    assert not Path(".zostudy").exists()


def test_doctor_machine_names_operation_and_shape_in_lines(zostudy, told):
    code, out, _ = zostudy("doctor", "--machine", str(told("lies")))
    assert code == 1
    assert out.startswith("machine: operation as_told of the supernet (4 channels, 8×8 pixels")
    assert out.splitlines()[-1].endswith("found")


@pytest.mark.parametrize("study", [True, False])
def test_doctor_machine_on_a_device_that_is_not_there_is_one_line(zostudy, told, study):
    named = [str(told("right"))] if study else []
    code, out, err = zostudy("doctor", "--machine", *named, "--device", "cuda:99")
    assert (code, out) == (2, "")
    assert err.startswith("error: runtime.device: 'cuda:99' is not there; this machine has ")
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "STUDY: is missing"),
        (["--machine", "--repair"], "--repair: has no effect with --machine"),
        (["--machine", "--set", "study=x"], "--set study=x: needs a study file"),
    ],
)
def test_what_doctor_cannot_do_together_is_refused(zostudy, arguments, message):
    code, out, err = zostudy("doctor", *arguments)
    assert (code, out) == (2, "")
    assert err.startswith(f"error: {message}")
