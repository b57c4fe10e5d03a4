"""The demo: what it may delete, and what it leaves. (`make demo` runs the whole.)"""

import pytest

import prefrl.demo
import prefrl.filming
from prefrl.configfile import load_config
from prefrl.demo import ENV, LABELS, demo, show
from prefrl.environment import make_drawable
from prefrl.errors import UserError
from prefrl.lock import hold
from prefrl.run import Run


class Trained(Exception):
    """The demo got as far as training."""


@pytest.fixture(autouse=True)
def _untrained(monkeypatch):
    def train(*_, **__):
        raise Trained

    monkeypatch.setattr(prefrl.demo, "train", train)


def make_run(path, env_id=ENV, **labels):
    return Run.create(path, load_config(env_id, {"labels": {"budget": LABELS} | labels}))


def test_an_earlier_demo_is_replaced(tmp_path):
    run = make_run(tmp_path / "runs" / "demo")
    with hold(run.training_lock), pytest.raises(UserError, match="is in use"):
        demo()
    assert run.path.exists()
    with pytest.raises(Trained):
        demo()
    assert not run.path.exists()


def test_a_run_of_ones_own_is_not_deleted(tmp_path):
    folder = tmp_path / "runs" / "demo"
    for name, make in (
        ("notes", lambda: folder.mkdir(parents=True)),
        ("answered", lambda: make_run(folder, labeller="human")),
        ("longer", lambda: make_run(folder, budget=LABELS + 1)),
        ("other", lambda: make_run(folder, "prefrl/PointMass-v0")),
    ):
        make()
        with pytest.raises(UserError, match="'runs/demo' is no earlier demo"):
            demo()
        folder.rename(tmp_path / name)


def test_without_a_renderer_there_is_a_report_and_a_warning(
    point_mass_run, monkeypatch, capsys, caplog
):
    made = []

    def fail(*_, **__):
        raise UserError("no renderer works here")

    def count(*arguments):
        made.append(make_drawable(*arguments))
        made[-1].close = lambda: made.remove(env)
        env = made[-1]
        return env

    monkeypatch.setattr(prefrl.filming, "Renderer", fail)
    monkeypatch.setattr(prefrl.filming, "make_drawable", count)
    assert show(point_mass_run) == [point_mass_run.path / "report.png"]
    assert caplog.messages == ["no video: no renderer works here"]
    assert capsys.readouterr().out == ""
    assert made == [], "all are closed"


def test_a_demo_that_cannot_be_deleted_is_refused_in_a_sentence(tmp_path):
    run = make_run(tmp_path / "elsewhere")
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "demo").symlink_to(run.path)
    with pytest.raises(UserError, match="cannot delete the earlier demo 'runs/demo': "):
        demo()
