"""Reading the metrics of a run that is under way, and writing them."""

import math
import threading

import pytest

from prefrl.errors import UserError
from prefrl.metrics import TAIL, MetricsLog, columns, in_figures, read_last, read_metrics


def write(path, rows, tail=""):
    lines = ["time/step,rollout/true_return", *(f"{step},{value}" for step, value in rows)]
    path.write_text("\n".join(lines) + "\n" + tail)


def test_a_return_is_shown_in_three_figures_at_least():
    returns = (5528.4, -99.96, 28.04, -4.3012, 0.4216, 0.0)
    assert [in_figures(x) for x in returns] == ["5,528", "-100", "28", "-4.3", "0.422", "0"]


def test_the_last_row_is_that_of_the_whole_file(tmp_path):
    path = tmp_path / "metrics.csv"
    for n in (1, 3, 2000):  # the last is longer than what is read of it
        write(path, [(100 * i, i / 8) for i in range(1, n + 1)])
        assert (
            read_last(path)
            == read_metrics(path)[-1]
            == {
                "time/step": 100.0 * n,
                "rollout/true_return": n / 8,
            }
        )
    assert path.stat().st_size > 2 * TAIL


def test_a_row_that_is_being_written_is_left_out(tmp_path):
    path = tmp_path / "metrics.csv"
    for n in (1, 2000):
        write(path, [(i, "") for i in range(1, n + 1)], tail="9999,1")
        last = read_last(path)
        assert last["time/step"] == n
        assert math.isnan(last["rollout/true_return"])


def test_a_return_without_bounds_is_written_as_it_is(tmp_path):
    log = MetricsLog(tmp_path, members=1)
    log.write({"time/step": 100, "rollout/true_return": math.inf})
    log.close()
    assert read_metrics(tmp_path / "metrics.csv")[0]["rollout/true_return"] == math.inf


def test_without_a_row_there_is_none(tmp_path):
    path = tmp_path / "metrics.csv"
    assert read_last(path) == {}
    write(path, [])
    assert read_last(path) == {}
    path.write_text("time/step,rollout/tr")
    assert read_last(path) == {}


def test_the_last_row_is_found_however_many_members_there_are(tmp_path):
    members = 300
    log = MetricsLog(tmp_path, members=members)
    keys = columns(members)
    for step in (960, 1920):
        log.write({"time/step": step} | dict.fromkeys(keys[1:], 1 / 3))
    log.close()
    assert len(",".join([repr(1 / 3)] * len(keys))) > TAIL
    assert read_last(tmp_path / "metrics.csv")["time/step"] == 1920


@pytest.mark.parametrize(
    ("text", "message"), [("time/step\nx\n", "no numbers"), ("step\n1\n", "no column 'time/step'")]
)
def test_damage_is_said(tmp_path, text, message):
    (tmp_path / "metrics.csv").write_text(text)
    with pytest.raises(UserError, match=message):
        read_metrics(tmp_path / "metrics.csv")


def test_what_other_threads_fail_with_is_still_told(tmp_path, monkeypatch):
    told = []
    monkeypatch.setattr(threading, "excepthook", lambda args: told.append(args.exc_type))
    before = threading.excepthook
    log = MetricsLog(tmp_path, members=0)

    def fail():
        raise ConnectionError("the simulator is gone")

    thread = threading.Thread(target=fail)
    thread.start()
    thread.join()
    log.close()
    assert told == [ConnectionError]
    assert threading.excepthook is before
