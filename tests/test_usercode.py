"""Files of the user's own: which of them decide a run, and that an edit is noticed."""

import sys
from pathlib import Path

import gymnasium as gym
import pytest
from compare import SMALL, TINY, point_mass_clip, suite_of

import prefrl
from prefrl.configfile import load_config
from prefrl.errors import RunFailed, UserError
from prefrl.usercode import fingerprints, load_function, own_files, what_decides

ENVIRONMENT = """
import gymnasium as gym
from envs.point_mass import PointMassEnv

gym.register(id="Noticed-v0", entry_point=PointMassEnv, max_episode_steps=60)
"""
ORACLE = """
def score(clip):
    return clip.true_rewards
"""


def test_files_decide_runs_on_labels_and_an_environment_any_run(tmp_path):
    own = tmp_path / "own.py"
    own.write_text(ORACLE)
    suite = suite_of(TINY.replace("labels: {", f"labels: {{oracle: '{own}:score', "))
    assert own_files(suite.config("prefrl/PointMass-v0", "random")) == [str(own)]
    assert own_files(suite.config("prefrl/PointMass-v0", "true-reward")) == []


@pytest.mark.parametrize(
    ("text", "env_id", "options"),
    [
        (ENVIRONMENT, "noticed:Noticed-v0", {}),
        (ORACLE, "prefrl/PointMass-v0", {"oracle": "noticed.py:score"}),
    ],
    ids=["environment", "oracle"],
)
def test_an_edit_since_a_run_began_is_noticed(tmp_path, monkeypatch, caplog, text, env_id, options):
    monkeypatch.syspath_prepend(tmp_path)
    own = tmp_path / "noticed.py"
    own.write_text(text)
    run = prefrl.train(
        env_id, preset="prefrl-PointMass-v0", labels=6, steps=1920, quiet=True, **options
    )
    ways = (
        lambda: prefrl.evaluate(run.path, episodes=1),
        lambda: prefrl.video(run.path, seconds=0.1),
        lambda: prefrl.resume(unfinished(run.path), quiet=True),
    )
    ways[0]()
    assert not caplog.records
    own.write_text(text + "# lighter\n")
    for again in ways:
        caplog.clear()
        again()
        assert f"'{own}' is not as it was when '{run.path}' began" in caplog.text


@pytest.mark.parametrize("finished", [True, False])
def test_a_configuration_edited_since_a_run_began_is_told_of_where_it_goes_on(caplog, finished):
    run = prefrl.train("prefrl/PointMass-v0", labels=6, steps=1920, out="run", quiet=True)
    assert repr(run) == "Run('run')"
    if not finished:
        run = unfinished(run.path)
    prefrl.resume("run", quiet=True)
    assert not caplog.records
    file = Path("run/config.yaml")
    file.write_text(file.read_text().replace("steps: 1920", "steps: 2880"))
    again = prefrl.resume("run" if finished else unfinished(run.path).path, quiet=True)
    assert again.record["result"]["steps"] == (1920 if finished else 2880)
    (said,) = (record.getMessage() for record in caplog.records)
    assert said.startswith("'run/config.yaml' is not as it was when the run began")
    assert said.endswith("trains anew") == finished


def unfinished(path: Path) -> prefrl.Run:
    run = prefrl.Run(path)
    run.finish(None)
    return run


def test_a_file_imports_what_lies_beside_it(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "beside_it.py").write_text("WEIGHT = 2\n")
    (folder / "copy.py").write_text("raise SystemExit\n")
    text = "import copy\nfrom beside_it import WEIGHT\n\n\ndef score(clip):\n    return WEIGHT\n"
    (folder / "own.py").write_text(text)
    assert load_function("mine/own.py:score", "oracle")(None) == 2


def test_two_files_import_what_lies_beside_each(tmp_path, monkeypatch):
    """Under the same name, as a module and as a package."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    for folder, weight in (("one", 1), ("two", 2)):
        (tmp_path / folder / "deeper").mkdir(parents=True)
        (tmp_path / folder / "weights_here.py").write_text(f"WEIGHT = {weight}\n")
        (tmp_path / folder / "deeper" / "sign.py").write_text(f"SIGN = {weight - 3}\n")
        text = "from deeper import sign\nfrom weights_here import WEIGHT\n\n\ndef score(clip):\n"
        (tmp_path / folder / "own.py").write_text(text + "    return WEIGHT, sign.SIGN\n")
    for folder, scores in (("one", (1, -2)), ("two", (2, -1)), ("one", (1, -2))):
        assert load_function(f"{folder}/own.py:score", "oracle")(None) == scores


def test_what_is_on_pythons_path_already_stays_where_it_is(tmp_path, monkeypatch):
    path = [str(tmp_path / "mine"), *sys.path]
    monkeypatch.setattr(sys, "path", path)
    for folder in ("mine", "other", "mine"):
        (tmp_path / folder).mkdir(exist_ok=True)
        (tmp_path / folder / "own.py").write_text(ORACLE)
        load_function(f"{folder}/own.py:score", "oracle")
        assert sys.path[0] == str(tmp_path / "mine")


def test_a_module_of_that_name_in_another_folder_is_noticed(tmp_path, monkeypatch, caplog):
    folders = [tmp_path / name for name in ("here", "moved", "other")]
    texts = [ENVIRONMENT, ENVIRONMENT, ENVIRONMENT + "# another\n"]
    for folder, text in zip(folders, texts, strict=True):
        folder.mkdir()
        (folder / "elsewhere.py").write_text(text.replace("Noticed", "Elsewhere"))
        monkeypatch.setattr(sys, "path", list(sys.path))  # what is put before it is taken back
        monkeypatch.chdir(folder)
        sys.modules.pop("elsewhere", None)
        gym.registry.pop("Elsewhere-v0", None)
        if folder.name == "here":
            options = {"preset": "prefrl-PointMass-v0", "labels": 6, "steps": 1920, "quiet": True}
            run = prefrl.train("elsewhere:Elsewhere-v0", out=tmp_path / "run", **options)
        prefrl.evaluate(run.path, episodes=1)
        assert bool(caplog.records) == (folder.name == "other")
    assert f"'{folders[2] / 'elsewhere.py'}' is not as it was" in caplog.text


LATE = """
def score(clip):
    if clip.step > 2000:
        raise ValueError("tired")
    return clip.true_rewards
"""


def test_what_fails_in_mid_run_says_where_and_goes_on_once_it_is_mended(tmp_path):
    own = tmp_path / "late.py"
    own.write_text(LATE)
    words = r"ValueError: tired \(late.py, line 4\): mend it, then `prefrl resume 'my run'` goes on"
    with pytest.raises(RunFailed, match=words):
        prefrl.train("prefrl/PointMass-v0", oracle="late.py:score", out="my run", **SMALL)
    own.write_text(ORACLE)
    assert prefrl.resume("my run", quiet=True).record["result"]["labels_answered"] == 12


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"oracle": lambda clip: clip.true_rewards},
            "labels.oracle must be 'FILE.py:FUNC', a function in a file, got",
        ),
        ({"query": lambda preferences: preferences[0]}, "query.rule must be 'FILE.py:FUNC'"),
        ({"preset": {"run": {"steps": 960}}}, "preset must be a preset's name or a YAML file's"),
    ],
)
def test_what_a_run_folder_could_not_hold_is_refused(tmp_path, options, message):
    with pytest.raises(UserError, match=message):
        prefrl.train("prefrl/PointMass-v0", **options)
    assert not list(tmp_path.iterdir())


def test_what_a_file_imports_from_beside_it_counts_as_its_own(tmp_path):
    own = tmp_path / "own.py"
    own.write_text("import helper\nfrom package import part\nimport numpy\n")
    (tmp_path / "helper.py").write_text("from deep import weight\n")
    (tmp_path / "package").mkdir()
    beside = [tmp_path / name for name in ("deep.py", "package/__init__.py", "package/part.py")]
    seen = {fingerprints([str(own)])[str(own)]}
    for file in beside:
        file.write_text("weight = 1\n")
        seen |= set(fingerprints([str(own)]).values())
        file.write_text("weight = -1\n")
        seen |= set(fingerprints([str(own)]).values())
    assert len(seen) == 7
    (tmp_path / "other.py").write_text("weight = 1\n")
    assert set(fingerprints([str(own)]).values()) <= seen
    own.write_text("def score(:\n")
    assert fingerprints([str(own)]), "what is wrong with it is said elsewhere"


PACKAGES = {
    "a package": ("pkg/envs/own.py", "from ..sub.dynamics import f\n"),
    "a folder, from within": ("pkg/envs.py", "import pkg.sub.dynamics\n"),
    "a folder, from beside": ("own.py", "from pkg.sub.dynamics import f\n"),
}


@pytest.mark.parametrize("kind", PACKAGES)
def test_what_lies_deep_in_a_package_counts(tmp_path, kind):
    file, text = PACKAGES[kind]
    (tmp_path / "pkg" / "sub").mkdir(parents=True)
    if kind == "a package":
        (tmp_path / "pkg" / "envs").mkdir()
        for folder in ("pkg", "pkg/envs", "pkg/sub"):
            (tmp_path / folder / "__init__.py").write_text("")
    own, dynamics = tmp_path / file, tmp_path / "pkg/sub/dynamics.py"
    own.write_text(text)
    seen = set()
    for line in ("f = 1\n", "f = 2\n"):
        dynamics.write_text(line)
        seen |= set(fingerprints([str(own)]).values())
    assert len(seen) == 2


def test_labels_to_start_from_decide_a_run_by_what_is_answered(asked_run):
    run = asked_run(3)
    sections = {"labels": {"labeller": "none", "source": str(run.label_file)}}
    config = load_config("prefrl/PointMass-v0", sections)

    def now():
        return what_decides(config)[str(run.label_file)]

    with run.labels as store:
        store.db.execute("PRAGMA wal_autocheckpoint = 0")
        queries = store.pending()
        for query in queries[:2]:
            store.answer(query.id, "left", labeller="ada", seconds=1.0)
        before = now()
        store.ask(point_mass_clip(90), point_mass_clip(91), step=960, rule="random")
        store.note(step=2000)
        assert now() == before, "of a question without an answer, nothing is learned"
        store.answer(queries[0].id, "right", labeller="ada", seconds=1.0)
        assert now() != before, "a correction in the store's log"
        store.answer(queries[0].id, "left", labeller="bob", seconds=2.0)
        assert now() == before
