"""The documentation says what is so: links, study files, the table of modules, the reference."""

import ast
import importlib.util
import re
import tomllib
from typing import get_args

import pytest
import yaml

from tests.documentation import PAGES, ROOT, anchor, blocks, links, name
from zostudy import registry
from zostudy.config import loading
from zostudy.config.document import merge, parse

PAGE = pytest.mark.parametrize("page", PAGES, ids=name)
CHECKED = [ROOT / "docs" / "reference.py", *sorted((ROOT / "studies").glob("*.yaml")), *PAGES]


@pytest.fixture(scope="module")
def reference():
    """The generator of the reference."""
    spec = importlib.util.spec_from_file_location("reference", ROOT / "docs" / "reference.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def generated(reference) -> dict[str, str]:
    """The generated pages by their path under docs/."""
    return reference.pages()


# -- pages and links -----------------------------------------------------------------------------


def test_the_readme_has_at_most_8_kib():
    assert (ROOT / "README.md").stat().st_size <= 8192


@PAGE
def test_links_lead_to_files_and_headings_that_exist(page, generated):
    for link in links(page):
        if link.startswith(("https://", "http://")):
            continue
        path, _, heading = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.is_relative_to(ROOT), link
        docs = ROOT / "docs"
        text = generated.get(target.relative_to(docs).as_posix()) if docs in target.parents else ""
        assert text or target.exists(), link
        if heading:
            text = text or target.read_text(encoding="utf-8")
            assert heading in [anchor(h) for h in re.findall(r"^#+ (.+)$", text, re.MULTILINE)], (
                link
            )


@pytest.mark.parametrize("path", CHECKED, ids=name)
def test_no_path_leads_out_of_the_repository(path):
    text = path.read_text(encoding="utf-8")
    for reached in re.findall(r"(?<![\w./])(?:\.\./)+[\w./-]*", text):
        assert (path.parent / reached).resolve().is_relative_to(ROOT), reached
    assert not re.search(r"(?<![\w/.])/(?:home|root|tmp|work|mnt|Users)/", text)


def test_every_page_is_in_the_navigation(generated):
    class Loader(yaml.SafeLoader):
        pass

    Loader.add_multi_constructor("", lambda *_: None)
    settings = yaml.load((ROOT / "mkdocs.yml").read_text(), Loader)  # noqa: S506  # derives from SafeLoader

    def files(entries):
        for entry in entries:
            for value in entry.values():
                yield from files(value) if isinstance(value, list) else [value]

    written = {p.relative_to(ROOT / "docs").as_posix() for p in (ROOT / "docs").rglob("*.md")}
    assert sorted(files(settings["nav"])) == sorted(written | set(generated))


# -- study files and Python ----------------------------------------------------------------------


def snippets():
    for page in PAGES:
        for index, text in enumerate(blocks(page, "yaml")):
            yield pytest.param(page, text, id=f"{name(page)}-{index}")


#: What a passage of a study file leaves out, and needs where it stands alone.
SURROUNDINGS = """
study: passage
prune: {source: random, xi: 0.5}
"""


@pytest.mark.parametrize(("page", "text"), list(snippets()))
def test_every_study_file_and_passage_of_one_is_valid(page, text, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    for code in blocks(page, "python"):
        module = re.match(r"# (\w+\.py)\n", code)
        if module:
            (tmp_path / module[1]).write_text(code, encoding="utf-8")
    given = parse(text)
    if "dataset" in given and given["dataset"].get("root"):
        (tmp_path / given["dataset"]["root"]).mkdir()
    document = given if "study" in given else merge(parse(SURROUNDINGS), given)
    loading.from_document(document)
    registry.forget()


def test_the_readmes_study_file_has_about_fifteen_lines():
    (text,) = blocks(ROOT / "README.md", "yaml")
    assert 12 <= len(text.splitlines()) <= 16


@PAGE
def test_python_in_the_documentation_can_be_parsed(page):
    for code in blocks(page, "python"):
        ast.parse(code)


# -- the table of modules ------------------------------------------------------------------------


def test_the_architecture_lists_every_module_once():
    text = (ROOT / "docs" / "ARCHITECTURE.md").read_text(encoding="utf-8")
    tables = text.partition("\n## Modules\n")[2].partition("\n## ")[0]
    listed = [
        f"{section.partition(chr(10))[0].strip()}/{module}.py"
        for section in tables.split("\n### ")[1:]
        for module in re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)
    ]
    there = [
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "zostudy").rglob("*.py")
        if not path.name.startswith("__")
    ]
    assert sorted(listed) == sorted(there)


#: A module as prose names it, such as `study/sweep/queue` or `networks/supernet.py`.
MODULE = re.compile(
    r"`((?:zostudy|study|search|networks|space|pruning|proxies|config|cli|evaluation|tests|benchmarks)"
    r"/[\w/]+)(?:\.py|\.[A-Z]\w*(?:\.\w+)?)?`"
)


@PAGE
def test_modules_that_the_documentation_names_exist(page):
    for module in MODULE.findall(page.read_text(encoding="utf-8")):
        places = [ROOT / module, ROOT / "zostudy" / module]
        assert any(p.exists() or p.with_suffix(".py").exists() for p in places), module


def test_docstrings_cite_sections_of_the_method_that_exist():
    text = (ROOT / "docs" / "method.md").read_text(encoding="utf-8")
    sections = set(re.findall(r"^## (\d+)\. ", text, re.MULTILINE))
    cited = 0
    for path in [*(ROOT / "zostudy").rglob("*.py"), *(ROOT / "tests" / "reference").glob("*.py")]:
        source = " ".join(path.read_text(encoding="utf-8").split())
        for numbers in re.findall(r"docs/method\.md, sections? ([\d, andto]+)", source):
            cited += 1
            assert set(re.findall(r"\d+", numbers)) <= sections, path
    assert cited > 20


# -- the generated reference ---------------------------------------------------------------------


def test_the_reference_has_every_setting_with_its_default(generated):
    page = generated["reference/settings.md"]
    config = loading.from_document({"study": "s"}).config
    for path in loading.flat(config.model_dump(mode="json")):
        if path.startswith("sweep.objectives") or "options" in path.split("."):
            continue  # options are in the reference of components
        assert f"| `{path}` |" in page, path
    assert "| `search.epochs` | `50` | a whole number, at least 1 and at most 1,000,000 |" in page


def test_the_reference_has_every_component_and_option(generated):
    page = generated["reference/components.md"]
    for kind in get_args(registry.Kind):
        for component in registry.components(kind).values():
            section = page.partition(f"\n### {component.name}\n")[2].partition("\n##")[0]
            assert section, component.name
    assert "| `until` | `level` | `level`, `genotype` |" in page


def test_the_reference_explains_every_option_of_a_component(reference):
    for kind in set(get_args(registry.Kind)) - {"search_space", "operation"}:
        for component in registry.components(kind).values():
            explained = reference._explained(component)
            missing = [option.name for option in component.options if option.name not in explained]
            assert not missing, (component.name, missing)


# -- what names the project ----------------------------------------------------------------------


def test_the_citation_has_the_version_of_the_package():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert (citation["title"], citation["version"]) == (project["name"], project["version"])
    assert citation["license"] == project["license"]


def test_templates_and_the_container_are_readable():
    forms = sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"))
    assert forms
    for form in forms:
        read = yaml.safe_load(form.read_text())
        assert {"name", "description", "body"} <= set(read), form
    container = (ROOT / ".devcontainer" / "devcontainer.json").read_text()
    assert "make" in yaml.safe_load(container)["postCreateCommand"]


def test_every_release_of_the_changelog_has_the_sections_of_keep_a_changelog():
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    allowed = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
    assert set(re.findall(r"^### (.+)$", text, re.MULTILINE)) <= allowed
    releases = re.findall(r"^## (.+)$", text, re.MULTILINE)
    assert releases
    assert all(
        re.fullmatch(r"\[Unreleased\]|\[\d+\.\d+\.\d+\] - \d{4}-\d\d-\d\d", r) for r in releases
    )
