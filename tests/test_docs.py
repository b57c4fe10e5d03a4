"""What the documents promise: every program in them runs, every name in them exists."""

import os
import re
from dataclasses import fields
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

import prefrl
from prefrl.bench.results import Row
from prefrl.bench.summary import summarise
from prefrl.metrics import METRICS

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```(?:\n```text\n(.*?)```)?", README, re.DOTALL)


@pytest.mark.parametrize(("program", "output"), BLOCKS, ids=range(len(BLOCKS)))
def test_readme_programs_run(program, output, capsys, tmp_path):
    exec(compile(program, "README.md", "exec"), {})
    printed = capsys.readouterr().out
    if output:
        assert printed == output


def test_readme_has_the_programs():
    assert len(BLOCKS) == 4
    assert BLOCKS[0][0].count("\n") <= 10
    assert BLOCKS[0][1]


def test_readme_example_is_the_file():
    named = [program for program, _ in BLOCKS if program.startswith("# examples/")]
    for program in named:
        first, rest = program.split("\n", 1)
        assert (ROOT / first.removeprefix("# ")).read_text() == rest
    assert named


def test_readme_links_lead_somewhere():
    links = re.findall(r"\]\(([^)#]+)", README)
    for link in links:
        assert link.startswith("http") or (ROOT / link).exists(), link
    assert len(links) > 3


METRICS_PAGE, TABLES_PAGE = (ROOT / "docs" / "metrics.md").read_text().split("## Tables of")


def test_every_metric_is_explained():
    explained = re.findall(r"^\| `([^`]+)` \|", METRICS_PAGE, re.MULTILINE)
    assert sorted(explained) == sorted(METRICS)


def test_every_column_of_a_suites_tables_is_explained():
    written = {f.name for f in fields(Row)}
    row = Row("A-v0", "some", 0, 1.0, 0.0)
    written |= {name for summary in summarise([row]) for name in summary.cells()}
    explained = set(re.findall(r"`(\w+)`", TABLES_PAGE))
    assert {re.sub("_(low|high)$", "", name) for name in written} <= explained


def test_public_names():
    assert len(prefrl.__all__) <= 15
    for name in prefrl.__all__:
        public = getattr(prefrl, name)
        assert public.__module__.startswith("prefrl."), name
        assert public.__doc__, name
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        prefrl.trian  # noqa: B018


def test_public_names_are_not_hidden_by_modules():
    for name in prefrl.__all__:
        assert not (ROOT / "prefrl" / f"{name}.py").exists(), name


@pytest.mark.parametrize("path", sorted((ROOT / "notebooks").glob("*.ipynb")), ids=lambda p: p.stem)
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
def test_notebooks_run(path, tmp_path, monkeypatch):
    monkeypatch.setenv("PREFRL_FAST", "1")
    monkeypatch.setenv("JUPYTER_PLATFORM_DIRS", "1")
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(
        notebook, timeout=240, resources={"metadata": {"path": str(tmp_path)}}, env=os.environ
    )
    client.execute()
    if any("prefrl.train(" in cell.source for cell in notebook.cells):
        assert list((tmp_path / "runs").rglob("*.mp4"))
    else:
        assert any("image/png" in o.get("data", {}) for c in notebook.cells for o in outputs(c))


def outputs(cell):
    return cell.get("outputs", [])


def test_the_notebook_teaches_landing_by_the_oracle_of_the_examples():
    notebook = nbformat.read(ROOT / "notebooks" / "backflip.ipynb", as_version=4)
    oracle = (ROOT / "examples" / "land.py").read_text()
    assert any(oracle in cell.source for cell in notebook.cells)
