"""What a results folder was made with, and that nothing else is mixed in."""

import shutil
import sys
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import gymnasium as gym
import pytest
import yaml
from compare import TINY, suite_of

import prefrl.run
from prefrl.bench.bench import bench
from prefrl.bench.provenance import LOCK
from prefrl.bench.results import Results, Row
from prefrl.bench.runner import run_cells
from prefrl.bench.suites import RANDOM_ACTIONS, load_suite
from prefrl.errors import RunFailed, UserError
from prefrl.lock import hold
from prefrl.run import Run

RESULTS = Path(__file__).parent.parent / "benchmarks" / "results"

ENVIRONMENT = """
import gymnasium as gym
from envs.point_mass import PointMassEnv

gym.register(id="{}", entry_point=PointMassEnv, max_episode_steps=60)
"""


def test_another_configuration_or_version_is_not_mixed_in(tiny, tmp_path):
    results = Results(tmp_path / "out")
    suite = suite_of(TINY)
    results.claim(suite)
    tiny.write_text(TINY.replace("budget: 8", "budget: 9"))
    other = suite_of(tiny.read_text())
    results.claim(other)  # nothing was run yet
    results.claim(suite)
    results.put(Row("prefrl/PointMass-v0", "random", 0, 1.0, 0.0))
    with pytest.raises(UserError, match=r"under 'random' with labels.budget 8, not 9: give"):
        bench(str(tiny), out=tmp_path / "out")
    # Other conditions may be added.
    tiny.write_text(TINY + "  hybrid: {query: {rule: hybrid}}\n")
    results.claim(suite_of(tiny.read_text()))
    file = tmp_path / "out" / "suite.yaml"
    known = yaml.safe_load(file.read_text())
    assert list(known["configurations"]["prefrl/PointMass-v0"])[-1] == "hybrid"
    file.write_text(yaml.safe_dump(known | {"versions": known["versions"] | {"torch": "1.0"}}))
    with pytest.raises(UserError, match=r"holds results of torch 1\.0, this is torch 2"):
        bench(str(tiny), out=tmp_path / "out")
    file.unlink()
    with pytest.raises(UserError, match=r"but no suite.yaml that says what results were made with"):
        bench(str(tiny), out=tmp_path / "out")
    assert not (tmp_path / "out" / "runs").exists(), "nothing was run"


@pytest.mark.parametrize(
    ("name", "text"),
    [("notes.txt", "mine"), ("results.csv", "my notes\n"), ("suite.yaml", TINY)],
)
def test_a_folder_of_anything_else_is_left_alone(tiny, tmp_path, name, text):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / name).write_text(text)
    with pytest.raises(UserError, match=f"no results folder: it holds '{name}'"):
        bench(str(tiny), out=tmp_path / "mine")
    assert (tmp_path / "mine" / name).read_text() == text
    assert (tmp_path / "mine" / LOCK).exists() == (name == "suite.yaml")


def test_a_run_folder_of_another_configuration_is_not_taken_over(tiny, tmp_path):
    cell, other = (
        suite_of(text).cells()[1] for text in (TINY, TINY.replace("budget: 8", "budget: 9"))
    )
    Run.create(tmp_path / cell.folder, other.config)
    with pytest.raises(UserError, match=r"trained with labels.budget 9, not 8: give another"):
        list(run_cells([cell], tmp_path, 1))


@pytest.mark.parametrize("path", sorted(RESULTS.iterdir()), ids=lambda path: path.name)
def test_the_results_that_come_along_can_be_gone_on_with(path, tmp_path, monkeypatch):
    """By the commands of docs/benchmarks.md, with the versions that made them."""
    for name in ("results.csv", "curves.csv", "suite.yaml"):
        shutil.copy(path / name, tmp_path / name)
    versions = yaml.safe_load((path / "suite.yaml").read_text())["versions"]
    monkeypatch.setattr("prefrl.bench.provenance.versions", lambda *configs: versions)
    suite, results = load_suite(path.name), Results(tmp_path)
    results.claim(suite)
    assert results.missing(suite.cells()) == []


def test_what_is_asked_makes_no_difference_to_the_true_reward(tmp_path):
    results = Results(tmp_path / "out")
    results.claim(suite_of(TINY))
    for condition in ("true-reward", "random"):
        results.put(Row("prefrl/PointMass-v0", condition, 0, 1.0, 0.0))
    with pytest.raises(UserError, match=r"under 'random' with labels.budget 8, not 9"):
        results.claim(suite_of(TINY.replace("budget: 8", "budget: 9")))
    with pytest.raises(UserError, match=r"under 'true-reward' with agent.gamma 0.95, not 0.5"):
        results.claim(suite_of(TINY.replace("labels: {b", "agent: {gamma: 0.5}\n    labels: {b")))


def test_a_run_trained_with_other_versions_is_not_taken_over(tmp_path):
    suite = suite_of(TINY)
    cell = suite.cells()[0]
    run = Run.create(tmp_path / "run", cell.config)
    run.finish({"true_return_mean": 1.0})
    run.record["versions"]["torch"] = "1.0"
    results = Results(tmp_path / "out")
    results.claim(suite)
    with pytest.raises(RunFailed, match=r"was trained with torch 1\.0, this is torch 2"):
        results.add(cell, run)


def test_a_run_that_did_not_go_on_exactly_is_told_of(point_mass_run, tmp_path, caplog):
    suite = suite_of(TINY)
    results = Results(tmp_path / "out")
    results.claim(suite)
    run = Run(point_mass_run.path)
    results.add(suite.cells()[0], run)
    assert not caplog.records
    run.record["inexact_resumes"] = 1
    results.add(suite.cells()[0], run)
    assert f"'{run.path}' differs from a run that was never stopped" in caplog.text


def test_envpools_version_counts_where_it_is_used(tmp_path):
    pooled = TINY.replace("run: {steps", "env: {backend: envpool}\n    run: {steps")
    versions = []
    for name, text in (("plain", TINY), ("pooled", pooled)):
        Results(tmp_path / name).claim(suite_of(text))
        versions.append(yaml.safe_load((tmp_path / name / "suite.yaml").read_text())["versions"])
    assert ["envpool" in known for known in versions] == [False, True]


def test_finished_results_of_envpool_are_refused_in_a_sentence_where_it_is_missing(
    tmp_path, monkeypatch
):
    def missing(package, installed=prefrl.run.version):
        if package == "envpool":
            raise PackageNotFoundError(package)
        return installed(package)

    suite = suite_of(TINY.replace("run: {steps", "env: {backend: envpool}\n    run: {steps"))
    Results(tmp_path / "out").claim(suite)
    monkeypatch.setattr("prefrl.run.version", missing)
    with pytest.raises(UserError, match=r"results of envpool .*, this is envpool \(absent\)"):
        Results(tmp_path / "out").claim(suite)


def test_an_edited_rule_or_oracle_is_not_mixed_in(tmp_path):
    own = tmp_path / "own.py"
    own.write_text("def score(clip):\n    return clip.true_rewards\n")
    suite = suite_of(TINY.replace("rule: random", f"rule: '{own}:score'"))
    results = Results(tmp_path / "out")
    results.claim(suite)
    results.put(Row("prefrl/PointMass-v0", "random", 0, 0.0, 0.0, failure="it fails"))
    own.write_text("def score(clip):\n    return 2 * clip.true_rewards\n")
    names = "random-seed1", "other-seed1", "random-seed2-seed0"  # a condition may be named so
    halves = [results.runs / f"prefrl-PointMass-v0-{name}" for name in names]
    for half in halves:
        half.mkdir(parents=True)
    results.claim(suite)  # mended after a failure
    assert [half.exists() for half in halves] == [False, True, True], "half by old, half by new"
    results.put(Row("prefrl/PointMass-v0", "random", 0, 1.0, 0.0))
    Results(tmp_path / "out").claim(suite)
    own.write_text("def score(clip):\n    return -clip.true_rewards\n")
    with pytest.raises(UserError, match=r"'random' with '.*own\.py' as it was before an edit"):
        Results(tmp_path / "out").claim(suite)


def test_an_edit_between_two_conditions_is_not_mixed_in(tmp_path):
    """They may have been run one by one, by suites of their own."""
    own = tmp_path / "own.py"
    suites = {}
    for name in ("first", "second"):
        text = TINY.replace("rule: random", f"rule: '{own}:score'").replace("random", name)
        suites[name] = suite_of(text)
    for name, score in (("first", "1"), ("second", "-1")):
        own.write_text(f"def score(preferences):\n    return {score} * preferences[0]\n")
        results = Results(tmp_path / "out")
        results.claim(suites[name])
        results.put(Row("prefrl/PointMass-v0", name, 0, 1.0, 0.0))
    Results(tmp_path / "out").claim(suites["second"])
    with pytest.raises(UserError, match=r"'first' with '.*own\.py' as it was before an edit"):
        Results(tmp_path / "out").claim(suites["first"])


def test_a_run_under_way_is_not_deleted_for_an_edit(tmp_path):
    """As one left over from a suite that was killed."""
    own = tmp_path / "own.py"
    own.write_text("def score(clip):\n    return clip.true_rewards\n")
    suite = suite_of(TINY.replace("labels: {", f"labels: {{oracle: '{own}:score', "))
    results = Results(tmp_path / "out")
    results.claim(suite)
    config = suite.config("prefrl/PointMass-v0", "random")
    run = Run.create(results.runs / "prefrl-PointMass-v0-random-seed0", config)
    own.write_text("def score(clip):\n    return -clip.true_rewards\n")
    with (
        hold(run.training_lock),
        pytest.raises(UserError, match=r"random-seed0' is still being trained with '.*own\.py'"),
    ):
        results.claim(suite)
    assert run.path.exists()
    results.claim(suite)
    assert not run.path.exists()


def test_an_edited_environment_is_not_mixed_in(tmp_path):
    own = tmp_path / "edited_env.py"
    own.write_text(ENVIRONMENT.format("Edited-v0"))
    task = "edited_env:Edited-v0"
    suite = suite_of(TINY.replace("prefrl/PointMass-v0", task))
    results = Results(tmp_path / "out")
    results.claim(suite)
    results.put(Row(task, RANDOM_ACTIONS, 0, 0.5, 0.0))
    own.write_text(own.read_text() + "# heavier\n")
    results.claim(suite)
    assert not results.rows, "random actions are measured again"
    results.put(Row(task, "true-reward", 0, 1.0, 0.0))
    own.write_text(own.read_text() + "# lighter\n")
    with pytest.raises(UserError, match=r"'true-reward' with '.*edited_env\.py' as it was before"):
        results.claim(suite)


def test_rows_that_another_bench_added_last_are_kept(tiny, tmp_path, monkeypatch):
    row = Row("prefrl/PointMass-v0", "random", 0, 1.0, 0.0)

    @contextmanager
    def late(path):
        """The lock, had as soon as the other bench has let go of it."""
        other = Results(path.parent)
        other.claim(suite_of(TINY))
        other.put(row)
        yield True

    monkeypatch.setattr("prefrl.bench.bench.hold", late)
    monkeypatch.setattr("prefrl.bench.bench.run_cells", lambda *_, **__: iter([]))
    bench(str(tiny), out=tmp_path / "out", quiet=True)
    assert row.key in Results(tmp_path / "out").rows


def test_random_actions_are_measured_again_where_the_environment_is_another(tmp_path):
    results = Results(tmp_path / "out")
    results.claim(suite_of(TINY))
    results.put(Row("prefrl/PointMass-v0", RANDOM_ACTIONS, 0, 0.5, 0.0))
    results.claim(suite_of(TINY))
    assert len(results.rows) == 1
    shorter = "env: {kwargs: {max_episode_steps: 30}}\n    run: {steps"
    results.claim(suite_of(TINY.replace("run: {steps", shorter)))
    assert not results.rows
    assert not Results(tmp_path / "out").rows, "nor are they there after a kill"


def test_an_edit_while_a_suite_runs_is_not_mixed_in(tmp_path):
    own = tmp_path / "own.py"
    own.write_text("def score(clip):\n    return clip.true_rewards\n")
    suite = suite_of(TINY.replace("labels: {", f"labels: {{oracle: '{own}:score', "))
    results = Results(tmp_path / "out")
    results.claim(suite)
    own.write_text("def score(clip):\n    return -clip.true_rewards\n")
    cell = next(cell for cell in suite.cells() if cell.condition == "random")
    run = Run.create(results.runs / cell.folder, cell.config)
    with pytest.raises(RunFailed, match=r"trained with another '.*own\.py' than the suite began"):
        results.add(cell, run)


def test_another_environment_of_that_name_is_not_mixed_in(tmp_path, monkeypatch):
    task = "sited_env:Sited-v0"
    for name, text in (("one", ""), ("moved", ""), ("two", "# lighter\n")):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "sited_env.py").write_text(ENVIRONMENT.format("Sited-v0") + text)
        monkeypatch.setattr(sys, "path", list(sys.path))
        monkeypatch.chdir(folder)
        sys.modules.pop("sited_env", None)
        gym.registry.pop("Sited-v0", None)
        suite = suite_of(TINY.replace("prefrl/PointMass-v0", task))
        results = Results(tmp_path / "out")
        if name == "two":
            with pytest.raises(UserError, match=r"with '.*two/sited_env\.py' as it was before"):
                results.claim(suite)
            break
        results.claim(suite)
        results.put(Row(task, "true-reward", 0, 1.0, 0.0))


def test_a_run_whose_metrics_are_damaged_fails_in_a_sentence(point_mass_run, tmp_path):
    results = Results(tmp_path / "out")
    suite = suite_of(TINY)
    results.claim(suite)
    copy = tmp_path / "copy"
    shutil.copytree(point_mass_run.path, copy)
    text = (copy / "metrics.csv").read_text()
    (copy / "metrics.csv").write_text(text.replace("960,", "x,", 1))
    with pytest.raises(RunFailed, match=r"metrics cannot be read: '.*' is damaged"):
        results.add(suite.cells()[0], Run(copy))
