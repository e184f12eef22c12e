"""Input that is wrong in any way is a clear error, or does no harm."""

import sys
from pathlib import Path

import pytest

from tests import mutations
from zostudy import cli

STUDIES = sorted((Path(__file__).parents[1] / "studies").glob("*.yaml"))


@pytest.fixture
def command(monkeypatch, capsys, tmp_path):
    """Runs a command in an empty folder: exit code, stdout, stderr."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["zostudy", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        printed = capsys.readouterr()
        return ended.value.code or 0, printed.out, printed.err

    return run


def assert_clear(code: int, err: str) -> None:
    """Success, or lines that say what is wrong; none of them without end."""
    assert code in (0, 1, 2), err
    if code:
        lines = err.splitlines()
        assert lines
        assert all(line.startswith("error: ") for line in lines), err
        assert max(map(len, lines)) < 2000
        assert len(lines) < 100
    assert "Traceback" not in err


def test_a_spoilt_study_file_is_valid_or_a_clear_error_and_leaves_nothing(command, tmp_path):
    codes = []
    for seed in range(200):
        source = STUDIES[seed % len(STUDIES)]
        path = tmp_path / "study.yaml"
        path.write_bytes(mutations.study_file(source.read_text(), seed))
        code, _, err = command("validate", path)
        assert_clear(code, err)
        codes.append(code)
        assert list(tmp_path.iterdir()) == [path]
    assert codes.count(2) > len(codes) / 2
