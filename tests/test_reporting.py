"""The panels of a run's report."""

import csv
import shutil
from pathlib import Path

import matplotlib
import pytest
from compare import SMALL
from imageio.v3 import imread
from matplotlib.figure import Figure

from prefrl import Run, UserError, report, train
from prefrl.reporting import _title


def test_a_loss_is_drawn_however_high_and_below_the_legend(point_mass_run, tmp_path, monkeypatch):
    run = tmp_path / "run"
    shutil.copytree(point_mass_run.path, run)
    with (run / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    rows[-1]["reward/validation_loss/0"] = "2.5"
    with (run / "metrics.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    drawn = []
    save = Figure.savefig
    monkeypatch.setattr(
        Figure, "savefig", lambda self, *args, **kw: (drawn.append(self), save(self, *args, **kw))
    )
    report(run)
    figure = drawn[0]
    axis = next(axis for axis in figure.axes if axis.get_title() == "Loss of each member")
    top = axis.transData.transform((0, 2.5))[1]
    assert axis.get_window_extent().y0 < top < axis.get_legend().get_window_extent().y0


def test_a_report_for_print_and_none_where_it_cannot_be_written(point_mass_run):
    svg, pdf = (report(point_mass_run, f"figures/a.{ending}") for ending in ("svg", "pdf"))
    assert b"<svg" in svg.read_bytes()
    assert pdf.read_bytes().startswith(b"%PDF")
    assert len(list(Path("figures").iterdir())) == 2
    with pytest.raises(UserError, match=r"'a.gif': a report's name must end in .png, .svg or .pdf"):
        report(point_mass_run, "a.gif")
    with pytest.raises(UserError, match=r"cannot write 'figures/a.svg/b.png'"):
        report(point_mass_run, "figures/a.svg/b.png")


def test_a_report_leaves_the_backend_as_it_is(point_mass_run, monkeypatch):
    monkeypatch.setitem(matplotlib.rcParams, "backend", "svg")
    report(point_mass_run)
    assert matplotlib.rcParams["backend"] == "svg"


def test_labels_taken_over_are_none_that_the_run_asked(point_mass_run, tmp_path, monkeypatch):
    source = shutil.copy(point_mass_run.label_file, "source.db")
    run = train("prefrl/PointMass-v0", labels_from=source, out="run", **SMALL)
    drawn = []
    monkeypatch.setattr(Figure, "savefig", lambda self, *args, **kw: drawn.append(self))
    report(run)
    axis = next(a for a in drawn[0].axes if a.get_title().startswith("Labels"))
    assert axis.get_title().endswith("60 of them taken over")
    asked, answered = (line.get_ydata() for line in axis.lines)
    assert (asked[0], asked[-1]) == (answered[0], answered[-1]) == (0, 12)


def test_a_report_on_the_true_reward_has_two_panels_and_one_that_failed_says_so(tmp_path):
    Path("flat.py").write_text("def flat(clip):\n    return 0 * clip.true_rewards\n")
    with pytest.raises(UserError, match="are ties"):
        train("prefrl/PointMass-v0", oracle="flat.py:flat", out="flat", **SMALL)
    true = train("prefrl/PointMass-v0", true_reward=True, out="true", steps=1920, quiet=True)
    assert imread(report(true)).shape[:2] == (400, 1000)
    run = Run("flat")
    assert _title(run) == "prefrl/PointMass-v0, seed 0: failed"
    run.note_failure("")
    assert _title(Run("flat")) == "prefrl/PointMass-v0, seed 0: under way"
