"""Suites: what their YAML may say, and the runs that come of it."""

from pathlib import Path

import pytest
import yaml

from prefrl.bench.suites import SUITES, difference, load_suite, suite_from_tree
from prefrl.errors import UserError

TREE = """
about: A test.
seeds: 3
reference: true-reward
tasks:
  Hopper-v5: {run: {steps: 50000}, labels: {budget: 20}}
  prefrl/PointMass-v0: {seeds: 2, labels: {budget: 9}}
conditions:
  true-reward: {run: {true_reward: true}}
  few: {labels: {budget: 4}}
"""


def tree(**changes):
    return yaml.safe_load(TREE) | changes


@pytest.mark.parametrize("path", sorted(SUITES.glob("*.yaml")), ids=lambda p: p.stem)
def test_every_suite_can_be_run(path):
    suite = load_suite(path.stem)
    assert suite.about
    assert len(suite.cells()) == sum(suite.seeds.values()) * len(suite.conditions)
    folders = [cell.folder for cell in suite.cells()]
    assert len(set(folders)) == len(folders)


def test_conditions_come_on_top_of_tasks_and_presets():
    suite = suite_from_tree("test", tree())
    config = suite.config("Hopper-v5", "few", seed=1)
    assert config.labels.budget == 4
    assert config.run.steps == 50000
    assert config.run.seed == 1
    assert config.clips.length == 60  # the preset's
    assert suite.config("prefrl/PointMass-v0", "true-reward").labels.budget == 9


def test_paths_are_taken_from_the_working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    own = {"own": {"labels": {"oracle": "own.py:score"}, "query": {"rule": "own.py:rule"}}}
    config = suite_from_tree("test", tree(reference="", conditions=own)).config("Hopper-v5", "own")
    assert config.labels.oracle == f"{tmp_path}/own.py:score"
    assert config.query.rule == f"{tmp_path}/own.py:rule"


def test_seeds_go_round_by_round_and_may_be_given():
    cells = suite_from_tree("test", tree()).cells()
    assert [(c.task, c.seed) for c in cells[::2]] == [
        ("Hopper-v5", 0),
        ("prefrl/PointMass-v0", 0),
        ("Hopper-v5", 1),
        ("prefrl/PointMass-v0", 1),
        ("Hopper-v5", 2),
    ]
    assert len(suite_from_tree("test", tree()).cells(seeds=1)) == 4


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sedes": 3}, "unknown key 'sedes': did you mean 'seeds'"),
        ({"tasks": {"Hoper-v5": {}}}, "suite 'test': unknown environment 'Hoper-v5': .*Hopper-v5"),
        ({"tasks": {}}, "has no tasks"),
        ({"conditions": None}, "'conditions' of suite 'test' must hold names"),
        ({"tasks": ["Hopper-v5"]}, "'tasks' of suite 'test' must hold names"),
        ({"reference": "true"}, "reference 'true' is none of its conditions: .*'true-reward'"),
        ({"baseline": "many"}, "baseline 'many' is none of its conditions"),
        ({"conditions": {"../evil": {}}}, r"a condition cannot be called '\.\./evil'"),
        ({"conditions": {"": {}}}, "a condition cannot be called ''"),
        ({"conditions": {"random-actions": {}}}, "cannot be called 'random-actions'"),
        ({"conditions": {"all": {}}}, "cannot be called 'all', which stands for all tasks"),
        ({"conditions": {True: {}}}, "'conditions' of suite 'test' must .* got True for a name"),
        (
            {"conditions": {"true-reward": {}, "ann": {"labels": {"labeller": "human"}}}},
            "Hopper-v5 under 'ann': nobody is at hand to answer",
        ),
        (
            {"reference": None, "conditions": {"few": {"run": {"seed": 3}}}},
            "'few' sets run.seed",
        ),
        ({"seeds": True}, "seeds of Hopper-v5 must be at least 1, got True"),
        ({"seeds": 0}, "seeds of Hopper-v5 must be at least 1, got 0"),
        ({"seeds": "many"}, "seeds of Hopper-v5 must be at least 1, got 'many'"),
        (
            {"reference": "", "conditions": {"few": {"lables": {"budget": 4}}}},
            "Hopper-v5 under 'few': unknown section 'lables': did you mean 'labels'",
        ),
        (
            {"reference": "", "conditions": {"few": {"labels": {"budge": 4}}}},
            "unknown key 'labels.budge'",
        ),
        ({"conditions": {"few": {"labels": 4}}}, "section 'labels' of 'few' .* must hold names"),
        (
            {"reference": "", "conditions": {"few": {"labels": {"budget": -1}}}},
            "labels must be at least 1, got -1",
        ),
    ],
)
def test_mistakes_in_a_suite_are_named(changes, message):
    with pytest.raises(UserError, match=message):
        suite_from_tree("test", tree(**changes))


def test_unknown_suites_and_files(tmp_path):
    Path("mine.yaml").touch()
    with pytest.raises(
        UserError, match=r"unknown suite 'mine': did you mean the file 'mine\.yaml'"
    ):
        load_suite("mine")
    with pytest.raises(UserError, match="unknown suite 'christiano': did you mean 'christiano8'"):
        load_suite("christiano")
    with pytest.raises(UserError, match=r"suite file 'no.yaml' does not exist"):
        load_suite("no.yaml")
    broken = tmp_path / "broken.yaml"
    broken.write_text("tasks: [")
    with pytest.raises(UserError, match="is not valid YAML"):
        load_suite(str(broken))
    broken.write_text("about: 2024-13-45")
    with pytest.raises(UserError, match="is not valid YAML: month must be in"):
        load_suite(str(broken))
    broken.write_text("seeds: 1\nseeds: 2")
    with pytest.raises(UserError, match="'seeds' stands twice"):
        load_suite(str(broken))
    broken.write_text("just a word")
    with pytest.raises(UserError, match="suite 'broken' must hold names"):
        load_suite(str(broken))


def test_the_first_difference_is_named():
    suite = suite_from_tree("test", tree())
    few, true = (suite.config("Hopper-v5", name) for name in ("few", "true-reward"))
    assert difference(few, few) == ""
    assert difference(few, true) == "labels.budget 4, not 20"


def test_a_suite_may_say_nothing_about_itself():
    assert suite_from_tree("test", tree() | {"about": None}).about == ""
