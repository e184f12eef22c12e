import json
import subprocess
import sys
from pathlib import Path

import pytest

from zostudy import cli
from zostudy.cli import ending
from zostudy.errors import ConfigError, NumericalError


def raising(error: BaseException):
    def command() -> None:
        raise error

    return command


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (ConfigError("search.epochs: 0"), 2, "error: search.epochs: 0\n"),
        (NumericalError("loss is nan"), 1, "error: loss is nan\n"),
        (PermissionError(13, "Permission denied", "a/b"), 2, "error: a/b: Permission denied\n"),
        (OSError(28, "No space left on device", "x.db"), 2, "error: x.db: No space left on dev"),
        (MemoryError(), 1, "error: this machine has not memory enough"),
        (KeyboardInterrupt(), 130, "stopped\n"),
        (BrokenPipeError(32, "Broken pipe"), 141, ""),
    ],
)
def test_what_ends_a_command_is_one_line_and_an_exit_code(error, code, said, capsys):
    assert ending.run(raising(error)) == code
    err = capsys.readouterr().err
    assert err.startswith(said)
    assert err.count("\n") == bool(said)


def test_a_bug_is_one_line_that_names_the_file_with_its_traceback(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PGPASSWORD", "hunter2")
    (tmp_path / ".zostudy").mkdir()
    assert ending.run(raising(KeyError("hunter2"))) == 70
    err = capsys.readouterr().err
    (log,) = (tmp_path / ".zostudy" / "logs").iterdir()
    assert err == (
        "error: zostudy has a bug (KeyError: '***'); its traceback is in "
        f".zostudy/logs/{log.name}: please report it with that file\n"
    )
    text = log.read_text()
    assert "Traceback" in text
    assert "hunter2" not in text


def test_a_bug_where_there_is_no_study_leaves_its_traceback_in_a_temporary_folder(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    assert ending.run(raising(AssertionError("no"))) == 70
    (log,) = (tmp_path / "temporary").iterdir()
    assert str(log) in capsys.readouterr().err
    assert not (tmp_path / ".zostudy").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["run"], "error: missing argument 'STUDY'"),
        (["rnu"], "error: no such command 'rnu'. Did you mean 'run'?"),
        (["run", "x.yaml", "--sett", "a"], "error: no such option: --sett"),
        (["run", "x.yaml", "--workers", "0"], "error: --workers: '0' is not allowed; allowed: "),
        (["run", "x.yaml", "--workers", "two"], "allowed: a whole number"),
        (["ui", "--port", "70000"], "error: --port: '70000' is not allowed; allowed: "),
        (["evaluate", "a", "b", "--seed", str(2**63)], "error: --seed: '9223372036854775808' is"),
        (["run", "x.yaml", "--device", "gpu"], "error: --device: 'gpu' is not allowed; allowed: "),
    ],
)
def test_a_wrong_command_line_is_one_line(arguments, said, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["zostudy", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1
    assert "Input should" not in err
    assert list(tmp_path.iterdir()) == []


STREAMS = """
import sys
from zostudy.cli import ending, terminal
from zostudy.cli.app import print_json
terminal.prepare()

def command():
    if "json" in sys.argv:
        print_json({"ξ": "±"})
    else:
        print("90.50 ± 0.71 │ ξ … 😀" + "x" * 99999)

sys.exit(ending.run(command))
"""


def streams(redirection: str, *arguments: str, encoding: str = "utf-8"):
    """The exit code, stdout and stderr of a command in a shell with its streams redirected."""
    line = f'"$0" -c "$1" "${{@:2}}" {redirection}'
    return subprocess.run(
        ["bash", "-c", line, sys.executable, STREAMS, *arguments],
        capture_output=True,
        check=False,
        cwd=Path(__file__).parents[2],
        env={"PATH": "/usr/bin:/bin", "PYTHONIOENCODING": encoding, "PYTHONPATH": "."},
    )


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "koi8-r", "utf-8"])
def test_output_goes_to_a_stream_of_any_encoding(encoding):
    done = streams("", encoding=encoding)
    assert (done.returncode, done.stderr) == (0, b"")
    text = done.stdout.decode(encoding)
    assert text[:13].replace("+-", "± ") == "90.50 ± 0.71 "
    assert ("ξ" in text) == (encoding == "utf-8")
    written = streams("", "json", encoding=encoding).stdout.decode(encoding)
    assert json.loads(written) == {"ξ": "±"}


@pytest.mark.parametrize(
    ("redirection", "code", "said"),
    [
        (">&-", 0, b""),
        (">&- 2>&-", 0, b""),
        ("| head -c 1", 0, b"9"),
        ("> /dev/full", 2, b"error: standard output or a file: No space left on device\n"),
    ],
)
def test_output_may_be_closed_full_or_unread(redirection, code, said):
    done = streams(redirection)
    assert (done.returncode, done.stdout + done.stderr) == (code, said)
