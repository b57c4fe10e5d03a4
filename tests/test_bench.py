"""Suites that run: reused, resumed, refused, failed; and what becomes of their results."""

import csv
import shutil
import signal
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
from compare import TINY, suite_of

from prefrl.bench.bench import bench, conclude
from prefrl.bench.board import Board, duration
from prefrl.bench.provenance import LOCK
from prefrl.bench.results import CurvePoint, Results, Row, answer_shares, curve
from prefrl.bench.runner import train_cell, why_it_ended
from prefrl.bench.suites import RANDOM_ACTIONS
from prefrl.bench.summary import summarise
from prefrl.errors import RunFailed, UserError
from prefrl.labels.store import LabelStore
from prefrl.lock import hold
from prefrl.run import Run


def table(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_suite_runs_and_is_reused(tmp_path, capsys):
    out = bench("smoke", seeds=1, out=tmp_path / "out")
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3
    assert "3/3  prefrl/PointMass-v0" in lines[-1]
    assert "(0 s left)" in lines[-1]
    rows = {row["condition"]: row for row in table(out / "results.csv")}
    assert set(rows) == {"true-reward", "random", "mutual-information", RANDOM_ACTIONS}
    assert rows["mutual-information"]["labels_answered"] == "24"
    assert rows["mutual-information"]["label_accuracy"] == "1"
    assert float(rows["true-reward"]["true_return_mean"]) > 20
    assert float(rows[RANDOM_ACTIONS]["true_return_mean"]) < 5
    for name in ("curves", "conditions", "profile"):
        assert (out / f"{name}.png").stat().st_size > 5000
        assert "<svg" in (out / f"{name}.svg").read_text()
    aggregate = {row["condition"]: row for row in table(out / "aggregate.csv")}
    assert float(aggregate["true-reward"]["normalised"]) == 1
    assert aggregate["random"]["improvement"] == ""

    # The run folders may go: what is in the table is not run again.
    (out / "runs").rename(tmp_path / "elsewhere")
    bench("smoke", seeds=1, out=out, quiet=True)
    assert not (out / "runs").exists()
    assert {row["condition"]: row for row in table(out / "results.csv")} == rows
    assert capsys.readouterr().err == ""


def test_only_what_is_new_is_run(tmp_path):
    suite = suite_of(TINY.replace("seeds: 1", "seeds: 2"))
    results = Results(tmp_path / "out")
    for cell in suite.cells(seeds=1):
        results.put(Row(*cell.key, 1.0, 0.0))
    missing = Results(tmp_path / "out").missing(suite.cells())
    assert [(cell.condition, cell.seed) for cell in missing] == [("true-reward", 1), ("random", 1)]


def test_a_failed_run_is_marked_and_the_others_go_on(tiny, tmp_path, capsys, monkeypatch):
    """The oracle fails in the middle; once it is mended, the same command goes on.

    Its path is relative, its complaint looks like markup, and another run's folder was left half
    made by a kill.
    """
    monkeypatch.chdir(tmp_path)
    oracle = Path("oracle.py")
    good = "def score(clip):\n    {}return clip.true_rewards\n"
    oracle.write_text(good.format("if clip.step > 1000: raise ValueError('see [/a]')\n    "))
    head = TINY[: TINY.index("conditions:")].replace("reference: true-reward", "")
    conditions = "conditions: {own: {labels: {oracle: 'oracle.py:score'}}, random: {}}\n"
    tiny.write_text(head + conditions)
    Results(Path("out")).claim(suite_of(tiny.read_text()))
    Path("out/runs/prefrl-PointMass-v0-random-seed0/checkpoints").mkdir(parents=True)
    with pytest.raises(RunFailed, match=r"1 of 2 runs failed, .* own seed 0 with '.*see \[/a\]"):
        bench(str(tiny), out="out", jobs=2)
    assert "ValueError: see [/a]" in capsys.readouterr().err
    rows = {row["condition"]: row for row in table(Path("out/results.csv"))}
    assert "see [/a]" in rows["own"]["failure"]
    assert rows["own"]["true_return_mean"] == rows["random"]["failure"] == ""
    assert [row["condition"] for row in table(Path("out/aggregate.csv"))] == ["random"]
    oracle.write_text(good.format(""))
    bench(str(tiny), out="out", quiet=True)
    rows = {row["condition"]: row for row in table(Path("out/results.csv"))}
    assert rows["own"]["true_return_mean"]
    assert rows["own"]["failure"] == ""


def test_an_aggregate_is_of_the_figures_in_the_table(tmp_path):
    suite = suite_of(TINY.replace("seeds: 1", "seeds: 3"))
    results = Results(tmp_path)
    results.put(Row("prefrl/PointMass-v0", RANDOM_ACTIONS, 0, 1.0, 0.0))
    for cell in suite.cells():
        results.put(Row(*cell.key, 1000 + (0, 0, 0.004)[cell.seed], 0.0, steps=3840))
    conclude(suite, tmp_path)
    rows = {row["condition"]: row for row in table(tmp_path / "aggregate.csv")}
    assert rows["random"]["true_return_std"] == "0", "six figures each: 1000, 1000, 1000"


def test_why_a_process_ended_is_one_sentence():
    said = "prefrl: no\nTraceback\nValueError: a tensor of\n  [nan]], grad_fn=<A>)\n"
    assert why_it_ended(said, 1) == "ValueError: a tensor of"
    assert why_it_ended(said, -9) == "signal 9 ended it"
    assert why_it_ended("no\n \n", 1) == "no"
    assert why_it_ended("training\nprefrl: its disk is full\n", 1) == "its disk is full"
    assert why_it_ended("\n", 1) == "it said nothing"


def test_only_what_the_last_attempt_said_counts(tmp_path, monkeypatch):
    cell = suite_of(TINY).cells()[0]
    run = Run.create(tmp_path / "run", cell.config)
    (run.path / "log.txt").write_text("prefrl: interrupted\n")
    monkeypatch.setattr(sys, "executable", shutil.which("false"))
    with pytest.raises(RuntimeError, match="it said nothing"):
        train_cell(cell, run.path, threading.Event())


def test_a_process_left_over_is_waited_for_even_if_it_takes_its_lock_late(tmp_path, monkeypatch):
    """It was still importing when the next suite looked, and has the lock when that one tries."""
    cell = suite_of(TINY).cells()[0]
    finished = threading.Event()

    def leave_over():
        with hold(tmp_path / "run" / ".training"):
            held.set()
            finished.wait()
            Run(tmp_path / "run").finish({"true_return_mean": 3.0})

    def too_late(path, stop):
        other.start()
        held.wait()
        threading.Timer(0.3, finished.set).start()
        return 2, "prefrl: it is being trained by another process"

    held, other = threading.Event(), threading.Thread(target=leave_over)
    monkeypatch.setattr("prefrl.bench.runner._go_on", too_late)
    run = train_cell(cell, tmp_path / "run", threading.Event())
    other.join()
    assert run is not None
    assert run.record["result"] == {"true_return_mean": 3.0}


def test_a_process_stopped_while_it_starts_has_not_failed(tmp_path, monkeypatch):
    cell = suite_of(TINY).cells()[0]
    stop = threading.Event()

    def interrupted(path, stop):
        stop.set()
        return -2, "KeyboardInterrupt"  # in its imports

    monkeypatch.setattr("prefrl.bench.runner._go_on", interrupted)
    assert train_cell(cell, tmp_path / "run", stop) is None


def test_a_policy_that_diverged_is_a_failure(tmp_path):
    cell = suite_of(TINY).cells()[0]
    run = Run.create(tmp_path / "run", cell.config)
    run.finish({"true_return_mean": float("nan")})
    with pytest.raises(RunFailed, match="is not a number, and would be none again"):
        Results(tmp_path / "out").add(cell, run)


def start(tiny, out):
    command = [sys.executable, "-m", "prefrl.cli", "bench", str(tiny), "--out", str(out)]
    return subprocess.Popen(
        [*command, "--jobs", "1"], stderr=subprocess.PIPE, text=True, start_new_session=True
    )


def wait_for(path):
    end = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_a_suite_that_is_stopped_goes_on(tiny, tmp_path):
    """Interrupted, it says how; killed, it finds its run still under way, and waits for it."""
    tiny.write_text(TINY.replace("steps: 3840", "steps: 9600"))
    true, random = (
        tmp_path / "out" / "runs" / f"prefrl-PointMass-v0-{name}-seed0" / "metrics.csv"
        for name in ("true-reward", "random")
    )
    process = start(tiny, tmp_path / "out")
    wait_for(true)
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=60)[1]
    assert process.returncode == 130
    assert "the same command goes on" in said
    assert (true.parent / "checkpoints").exists()
    process = start(tiny, tmp_path / "out")
    wait_for(random)
    process.kill()
    said += process.communicate(timeout=60)[1]
    process = start(tiny, tmp_path / "out")
    said += process.communicate(timeout=120)[1]
    assert process.returncode == 0
    assert [said.count(f"{name}  seed 0: ") for name in ("true-reward", "random")] == [1, 1]
    assert len(table(tmp_path / "out" / "results.csv")) == 3


def test_two_benches_do_not_share_a_folder(tiny, tmp_path):
    (tmp_path / "out").mkdir()
    with hold(tmp_path / "out" / ".bench"), pytest.raises(UserError, match="in use by another"):
        bench(str(tiny), out=tmp_path / "out")


def test_more_jobs_than_cores_are_warned_of(tiny, tmp_path, caplog):
    results, suite = Results(tmp_path / "out"), suite_of(TINY)
    results.claim(suite)
    for cell in suite.cells():
        results.put(Row(*cell.key, 1.0, 0.0))
    bench(str(tiny), out=tmp_path / "out", jobs=1, quiet=True)
    assert not caplog.messages
    bench(str(tiny), out=tmp_path / "out", jobs=999, quiet=True)
    assert "999 jobs on" in caplog.messages[0]


@pytest.mark.parametrize(
    ("option", "message"), [({"seeds": 0}, "seeds must be"), ({"jobs": 0}, "jobs must be")]
)
def test_numbers_that_cannot_be(tiny, tmp_path, option, message):
    with pytest.raises(UserError, match=message):
        bench(str(tiny), out=tmp_path / "out", **option)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("results.csv", "task,condition\nA,b\n", "damaged"),
        ("results.csv", "a\n1\n", "results.csv has a column 'a'"),
        ("curves.csv", "\nA,b,0\n", "longer"),
    ],
)
def test_a_damaged_results_folder_is_named(tiny, tmp_path, name, text, message):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / name).write_text(text)
    with pytest.raises(UserError, match=message):
        bench(str(tiny), out=tmp_path / "out")


def test_rows_come_back_as_they_were_written(tmp_path):
    results = Results(tmp_path)
    row = Row("A-v0", "some, thing", 3, 1.5, float("nan"), labels_answered=7, commit="abc")
    results.put(row)
    again = Results(tmp_path).rows[row.key]
    assert np.isnan(again.true_return_std)
    assert again.labels_answered == 7
    assert (again.key, again.true_return_mean, again.commit) == (row.key, 1.5, "abc")


def test_how_a_labeller_answered(tmp_path, make_clip):
    """Right twice, wrong once; a tie counts for nothing; three say equal, two skip."""
    cell = suite_of(TINY).cells()[1]
    run = Run.create(tmp_path / "run", cell.config)
    store = LabelStore(run.label_file)
    pairs = [(1, 0, "left"), (0, 1, "right"), (0, 1, "left"), (1, 1, "left")]
    pairs += [(0, 1, "equal")] * 3 + [(1, 0, "skip")] * 2
    for n, (left, right, answer) in enumerate(pairs):
        clips = make_clip(left, seed=2 * n), make_clip(right, seed=2 * n + 1)
        query = store.ask(*clips, step=0, rule="random")
        store.answer(query, answer, labeller="a", seconds=1.0, step=0)
    store.close()
    shares = {"label_accuracy": 2 / 3, "equal_share": 3 / 9, "skip_share": 2 / 9}
    assert answer_shares(run) == pytest.approx(shares)


def test_a_curve_is_the_mean_over_each_fortieth_of_a_run(tmp_path):
    cell = suite_of(TINY).cells()[0]  # of 3,840 steps
    run = Run.create(tmp_path / "run", cell.config)

    def curve_of(*rows):
        lines = ["time/step,rollout/true_return", *(f"{step},{value}" for step, value in rows)]
        (run.path / "metrics.csv").write_text("\n".join(lines) + "\n")
        return curve(run)

    begin = [(48, ""), (90, 2.0), (96, 4.0), (97, 5.0)]
    assert curve_of(*begin, (3800, 7.0), (3840, 9.0)) == [(96, 3.0), (192, 5.0), (3840, 8.0)]
    # The last rollout goes beyond: it is a stretch of its own, and not in the one before.
    beyond = [(96, 3.0), (192, 5.0), (3840, 7.0), (3900, 9.0)]
    assert curve_of(*begin, (3800, 7.0), (3900, 9.0)) == beyond
    assert curve_of(*begin) == [(96, 3.0), (192, 5.0)], "of a run under way"


def test_time_left_goes_by_each_tasks_own_speed():
    suite = suite_of(TINY.replace("seeds: 1", "seeds: 3"))
    cells = suite.cells()
    row = Row(*cells[0].key, 1.0, 0.0, steps=3840, wall_seconds=38.4)
    board = Board(cells, [row], jobs=2, quiet=True)
    assert board.seconds_left() == pytest.approx(5 * 38.4 / 2)
    assert Board(cells, [row], jobs=64, quiet=True).seconds_left() == pytest.approx(38.4)
    assert np.isnan(Board(cells, [], jobs=2, quiet=True).seconds_left())
    assert [duration(s) for s in (5, 600, 7500, float("nan"))] == [
        "5 s",
        "10 min",
        "2 h 05 min",
        "?",
    ]


def test_curves_are_averaged_over_runs():
    from prefrl.bench.plots import _band

    points = [CurvePoint("A", "x", s, step, s + step) for s in (0, 2) for step in (10, 20)]
    steps, low, middle, high = _band(points, "A", "x", np.random.default_rng(0))
    assert (steps, middle) == ([10, 20], [11, 21])
    assert (low, high) == ([10, 20], [12, 22])


def test_published_figures_are_read_and_drawn_where_all_agrees():
    from matplotlib.text import Annotation

    from prefrl.bench.anchors import read_anchors
    from prefrl.bench.plots import draw_curves, looks

    anchors = read_anchors(Path(__file__).parent.parent / "benchmarks" / "anchors.csv")
    best = next(a for a in anchors if a.task == "Ant-v5" and a.labels == 1000 and a.mean > -600)
    assert (best.steps, best.mean, best.deviation) == (1_000_000, -512, 220)
    assert best.agrees(1000, 1_003_520)
    assert not best.agrees(700, 1_003_520)
    assert not best.agrees(1000, 503_808)
    rows = [Row("Ant-v5", "asked", 0, 5.0, 0.0, labels_answered=1000, steps=1_003_520)]
    curves = [CurvePoint("Ant-v5", "asked", 0, 1_003_520, 5.0)]
    (axis,) = draw_curves(curves, summarise(rows), looks(["asked"]), anchors).axes
    written = [t.get_text() for t in axis.get_children() if isinstance(t, Annotation)]
    assert any(text.endswith(": -512") for text in written)


def test_published_figures_that_cannot_be_read(tmp_path):
    from prefrl.bench.anchors import read_anchors

    (tmp_path / "a.csv").write_text("task,method\nA-v0,b\n")
    with pytest.raises(UserError, match=r"'.*a\.csv': there is no column 'return_mean'"):
        read_anchors(tmp_path / "a.csv")
    header = "task,method,labels,env_steps,return_mean,return_std,source\n"
    (tmp_path / "a.csv").write_text(header + "A-v0,b,10,500,20,1\n")
    with pytest.raises(UserError, match="a row has fewer cells than the first"):
        read_anchors(tmp_path / "a.csv")
    (tmp_path / "a.csv").write_text(header + "A-v0,b,,500,20,1,them\n")
    (unsaid,) = read_anchors(tmp_path / "a.csv")
    assert not unsaid.agrees(labels=0, steps=500), "nobody says that it is of the true reward"
    with pytest.raises(UserError, match=r"cannot read published figures from '.*no\.csv'"):
        read_anchors(tmp_path / "no.csv")


def test_a_condition_that_cannot_be_run_is_named(tiny, tmp_path):
    (tmp_path / "own.py").write_text(
        "def holes(preferences):\n    return preferences[0] * float('nan')\n"
    )
    tiny.write_text(TINY.replace("rule: random", f"rule: '{tmp_path}/own.py:holes'"))
    with pytest.raises(UserError, match=r"'tiny', prefrl/PointMass-v0 under 'random': the query"):
        bench(str(tiny), out=tmp_path / "out")
    assert not (tmp_path / "out").exists(), "nothing is left of it"


def test_a_bench_that_comes_second_leaves_the_folder_of_the_first(tiny, tmp_path, monkeypatch):
    with ExitStack() as first:

        def make(folder):  # the first comes in between
            folder.mkdir()
            first.enter_context(hold(folder / LOCK))

        monkeypatch.setattr("prefrl.bench.bench.make_folder", make)
        with pytest.raises(UserError, match="in use by another bench"):
            bench(str(tiny), out=tmp_path / "out")
        assert (tmp_path / "out" / LOCK).exists()
