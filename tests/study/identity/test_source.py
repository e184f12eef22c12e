import pytest

from zostudy.errors import ConfigError
from zostudy.study.identity import source


@pytest.fixture
def digest(tmp_path, monkeypatch):
    """The digest of an extension in a folder of its own, as a new process would find it."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def of(*names):
        source.extensions_digest.cache_clear()
        return source.extensions_digest(names)

    yield of
    source.extensions_digest.cache_clear()


def test_no_extensions_have_no_digest(digest):
    assert digest() == ""


def test_the_source_of_an_extension_is_what_counts(digest, tmp_path):
    (tmp_path / "identity_mine.py").write_text("A = 1\n")
    first = digest("identity_mine")
    (tmp_path / "beside.py").write_text("")
    assert digest("identity_mine") == first
    (tmp_path / "identity_mine.py").write_text("A = 2\n")
    assert digest("identity_mine") != first


@pytest.mark.parametrize(
    "line",
    [
        "import identity_helper",
        "from identity_helper import A",
        "def late():\n    import identity_helper as h\n    return h.A",
    ],
)
def test_a_module_that_an_extension_imports_belongs_to_it(digest, tmp_path, line):
    (tmp_path / "identity_mine.py").write_text(f"import torch\nimport zostudy.registry\n{line}\n")
    helper = tmp_path / "identity_helper.py"
    helper.write_text("A = 1\n")
    first = digest("identity_mine")
    helper.write_text("A = 2\n")
    assert digest("identity_mine") != first


def test_the_modules_of_an_extension_s_package_belong_to_it(digest, tmp_path):
    package = tmp_path / "identity_package"
    package.mkdir()
    (package / "__init__.py").write_text("raise ImportError('nothing is imported')\n")
    (package / "part.py").write_text("from . import deep\nfrom .deep import A\n")
    (package / "deep.py").write_text("A = 1\n")
    (tmp_path / "identity_mine.py").write_text("from identity_package import part\n")
    first = digest("identity_mine")
    (package / "deep.py").write_text("A = 2\n")
    second = digest("identity_mine")
    (package / "__init__.py").write_text("B = 1\n")
    assert len({first, second, digest("identity_mine")}) == 3


def test_modules_that_import_each_other_come_to_an_end(digest, tmp_path):
    (tmp_path / "identity_one.py").write_text("import identity_two\n")
    (tmp_path / "identity_two.py").write_text("import identity_one\n")
    assert len(digest("identity_one")) == 64


def test_an_extension_that_is_not_there_is_named(digest):
    with pytest.raises(ConfigError, match="identity_nowhere"):
        digest("identity_nowhere")
