import pytest

from zostudy.config import document
from zostudy.config.loading import load
from zostudy.errors import ConfigError

PAIRS = ("ab", "bc", "cd", "de", "ef")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 1e-3),
        ("-2E+5", -2e5),
        ("3.5e4", 3.5e4),
        (".5e1", 5.0),
        ("0.25", 0.25),
        ("3", 3),
        ("e-3", "e-3"),
        ("1e", "1e"),
        ("beta_decay", "beta_decay"),
        ("true", True),
        ("[1, 2e0]", [1, 2.0]),
        ("{a: 1}", {"a": 1}),
    ],
)
def test_values_are_read_as_they_look(text, value):
    parsed = document.parse(text)
    assert parsed == value
    assert type(parsed) is type(value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3", r"line 3: key 'a' stands twice"),
        ("a:\n  b: 1\n  b: 1", r"line 3: key 'b' stands twice"),
        ("1: a", r"line 1: key 1 is no text"),
        ("a: [1, 2", r"line 1: "),
        ("a: b: c", r"line 1: mapping values are not allowed here"),
        (
            "a: !!python/object/apply:os.getcwd []",
            r"line 1: a: tag !!python/object/apply:os\.getcwd is not allowed here",
        ),
        ("a: &x {b: 1}\nc: {<<: *x}", r"line 2: merge keys \(<<\) are not allowed"),
        ("a: &x [*x]", r"line 1: a\[0\]: an alias leads back to what it"),
    ],
)
def test_wrong_yaml_is_an_error_that_names_the_line(text, message):
    with pytest.raises(ConfigError, match=message):
        document.parse(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nstudy: 2024-05-01", r"^line 2: study: 2024-05-01 is a date .*: '2024-05-01'$"),
        ("a:\n  b: 2024-13-45", r"^line 2: a\.b: 2024-13-45 is a date in YAML"),
        ('a: [1, !!int "x"]', r"^line 1: a\[1\]: 'x' is no whole number$"),
        ("a: !!binary aGk=", r"^line 1: a: tag !!binary is not allowed here; allowed: text"),
        ("a: 1\nb: \x07", r"^line 2: holds the control character U\+0007; remove it"),
        ('a: "\\0"', r"^line 1: a: holds the control character U\+0000; remove it$"),
        ("a: 1e400", r"^line 1: a: 1e400 is not allowed; allowed: finite numbers"),
        ("a: .nan", r"^line 1: a: \.nan is not allowed; allowed: finite numbers"),
        ("a: " + "9" * 5000, r"^line 1: a: '9{80}…' is no whole number$"),
        ("a: 1\n---\nb: 1", r"^line 2: a second document begins here"),
        ("a:\n\tb: 1", r"^line 2: a tab, or a character that cannot stand here; indent with"),
        ("[" * 5000, r"^line 1: is nested too deeply; allowed: 50 levels$"),
        (
            "a: &a [x, x, x, x, x, x, x, x, x, x]\n"
            + "".join(f"{b}: &{b} [{', '.join([f'*{a}'] * 10)}]\n" for a, b in PAIRS),
            r"^line 1: .*its aliases make more than 200,000 values$",
        ),
    ],
)  # fmt: skip
def test_what_no_setting_can_be_is_named_by_line_and_key(text, message):
    with pytest.raises(ConfigError, match=message):
        document.parse(text)


@pytest.mark.parametrize(
    ("text", "warning"),
    [
        (
            "a: 010",
            "line 1: a: 010 is 8 in YAML, which takes it for an octal number; write 8, or 10",
        ),
        ("a: [1:30]", "line 1: a[0]: 1:30 is 90 in YAML, which takes it for a number of base 60"),
        ("a: 007", ""),
        ("a: '010'", ""),
    ],
)
def test_numbers_that_are_not_read_as_they_look_are_warned_of(tmp_path, caplog, text, warning):
    path = tmp_path / "s.yaml"
    path.write_text(text)
    document.read(path)
    assert warning in caplog.text
    assert bool(caplog.text) == bool(warning)


def test_an_error_says_what_was_written_where_that_looks_else(tmp_path):
    path = tmp_path / "s.yaml"
    path.write_text("study: no\nsearch:\n")
    with pytest.raises(ConfigError) as caught:
        load(path)
    first, second = sorted(str(caught.value).splitlines(), reverse=True)
    assert first.endswith("(line 1: no is false in YAML; for text: 'no')")
    assert second.endswith("(line 2 has no value)")


def test_a_file_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(ConfigError, match=r"no\.yaml: cannot be read \(No such file"):
        document.read(tmp_path / "no.yaml")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\xff\xfe", "is no UTF-8 text"),
        (b"- a\n- b", "needs keys and values at its top"),
        (b"", "needs keys and values at its top"),
        (b"a: 1\na: 1", r"s\.yaml: line 2: key 'a' stands twice"),
    ],
)
def test_a_file_that_is_no_study_file_is_an_error(tmp_path, content, message):
    path = tmp_path / "s.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=message):
        document.read(path)


def test_an_assignment_has_a_path_and_a_yaml_value():
    assert document.assignment("search.weights.learning_rate=1e-3") == (
        "search.weights.learning_rate",
        1e-3,
    )
    assert document.assignment("dataset.root=/a=b") == ("dataset.root", "/a=b")
    assert document.assignment("sweep.seeds=[0, 1]") == ("sweep.seeds", [0, 1])


@pytest.mark.parametrize("text", ["search.epochs", "=3", "search..epochs=3", ".a=1", "a b=1"])
def test_an_assignment_without_path_or_value_is_an_error(text):
    with pytest.raises(ConfigError, match="needs the form path=value"):
        document.assignment(text)


def test_an_override_sets_a_path_and_leaves_the_document_alone():
    before = {"a": {"b": 1}, "c": [1]}
    after = document.override(before, {"a.b": 2, "a.x.y": 3, "c": [2]})
    assert after == {"a": {"b": 2, "x": {"y": 3}}, "c": [2]}
    assert before == {"a": {"b": 1}, "c": [1]}


def test_an_override_through_a_value_is_an_error():
    with pytest.raises(ConfigError, match=r"a\.b\.c: a\.b has no keys"):
        document.override({"a": {"b": 1}}, {"a.b.c": 2})


def test_the_document_above_wins_in_a_merge():
    base = {"a": {"b": 1, "c": 2}, "d": {"e": 1}}
    assert document.merge(base, {"a": {"b": 9}, "d": 4}) == {"a": {"b": 9, "c": 2}, "d": 4}
    assert base == {"a": {"b": 1, "c": 2}, "d": {"e": 1}}
