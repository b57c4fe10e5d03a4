"""The real window on a real (if invisible) screen, with real keys, beside a real training run."""

import csv
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import pytest
from compare import until
from desktop import KEYS, Desktop, ScriptedPerson, missing
from PIL import Image

import prefrl
from envs.point_mass import PointMassEnv
from prefrl.labels.answers import turned
from prefrl.labels.store import LabelStore

if missing() and not os.environ.get("CI"):
    pytest.skip(f"not installed: {', '.join(missing())}", allow_module_level=True)

PREFRL = [sys.executable, "-m", "prefrl.cli"]


@pytest.fixture
def desktop():
    with Desktop() as desktop:
        yield desktop


@pytest.fixture
def processes():
    started = []
    yield started
    for process in started:
        if process.poll() is None:
            process.kill()
        process.wait()


@pytest.fixture
def start(processes, tmp_path):
    def start(desktop, *arguments):
        with (tmp_path / "output.txt").open("a") as output:
            process = subprocess.Popen(
                [*PREFRL, *arguments], env=desktop.environment, stdout=output, stderr=output
            )
        processes.append(process)
        return process

    return start


def both_drawn(desktop, path, size):
    """Whether there is a clip in either half of a window of that size."""
    screen = Image.open(desktop.screenshot(path)).convert("RGB")
    width, height = size
    halves = [(0, 0, width // 2, height), (width // 2, 0, width, height)]
    return all(screen.crop(half).getcolors(100) is None for half in halves)  # None: more than that


def test_a_labelling_session_on_hopper(start, tmp_path):
    """Twenty answers of all four kinds, two of them taken back, in three sizes of the window."""
    folder = tmp_path / "runs" / "hopper"
    with Desktop(3840, 2160) as desktop:
        training = start(
            desktop, "train", "Hopper-v5", "--labeller", "human", "--labels", "300",
            "--steps", "5000000", "--out", str(folder), "--ask", "Which one hops further?",
        )  # fmt: skip
        person = ScriptedPerson(desktop, folder / "labels.db")
        query, swapped, shown = person.wait_for_pair()
        expected: dict[int, tuple[str, bool]] = {}
        withdrawn = []
        sizes = [(640, 400), (1280, 800), (3840, 2160)]
        for n in range(20):
            if n % 7 == 0:
                desktop.resize(*sizes[n // 7])
                time.sleep(1.0)
                until(lambda n=n: both_drawn(desktop, tmp_path / f"{n}.bmp", sizes[n // 7]))
            time.sleep(0.3)
            answer = list(KEYS)[n % 4]
            desktop.key(KEYS[answer])
            expected[query] = (turned(answer, swapped), swapped)
            before = query
            query, swapped, shown = person.wait_for_pair(after=shown)
            assert query != before
            if n in (5, 12):
                time.sleep(0.3)
                desktop.key("u" if n == 5 else "BackSpace")
                query, swapped, shown = person.wait_for_pair(after=shown)
                assert query == before, "the pair comes again"
                withdrawn.append(query)
                del expected[query]
        desktop.key("a", "1", "Return", "Tab")
        desktop.key("Escape")
        until(lambda: "training goes on" in (tmp_path / "output.txt").read_text())
        training.send_signal(signal.SIGINT)
        assert training.wait(timeout=30) == 130
        person.close()
    store = LabelStore(folder / "labels.db")
    labels = [*store.labels(), *store.labels(probes=True)]
    assert {label.query.id: (label.answer, label.swapped) for label in labels} == expected
    kinds = Counter(turned(label.answer, label.swapped) for label in labels)
    assert set(kinds) == set(KEYS)
    assert {label.swapped for label in labels} == {False, True}
    taken_back = store.db.execute("SELECT query FROM answers WHERE answer = 'withdrawn'")
    assert [row[0] for row in taken_back] == withdrawn
    store.close()
    words = (folder / "window.log").read_text()
    assert "prefrl label" in words
    assert "from a key to the next pair" in words
    assert "closed" not in words


def test_a_person_teaches_the_point_mass_through_the_window(desktop, start, tmp_path):
    folder = tmp_path / "taught"
    training = start(
        desktop, "train", "prefrl/PointMass-v0", "--labeller", "human", "--wait-for-labels",
        "--out", str(folder),
    )  # fmt: skip
    person = ScriptedPerson(desktop, folder / "labels.db", mistakes=0.05)
    person.label(100, done=lambda: training.poll() is not None)
    person.close()
    assert training.wait(timeout=60) == 0
    run = prefrl.Run(folder)
    assert run.record["result"]["true_return_mean"] > 0.95 * PointMassEnv.BEST_RETURN
    assert 55 <= run.record["result"]["labels_answered"] <= 60
    out = subprocess.run(
        [*PREFRL, "label", str(folder), "--export", "labels.csv"], capture_output=True, text=True
    )
    assert (out.returncode, out.stdout.strip()) == (0, "labels.csv")
    with Path("labels.csv").open() as file:
        rows = list(csv.DictReader(file))
    store = run.labels
    assert len(rows) == len(store.labels()) + len(store.labels(probes=True))
    assert {row["left_clip_on"] for row in rows} == {"left", "right"}
    store.close()
    assert prefrl.report(run).exists()


def test_killed_at_random_no_answer_is_lost_or_doubled(desktop, start, processes, tmp_path):
    """SIGKILL of window and trainer in turn, while a person labels."""
    random.seed(0)
    folder = tmp_path / "killed"
    trainer = start(
        desktop, "train", "prefrl/PointMass-v0", "--labeller", "human", "--wait-for-labels",
        "--labels", "300", "--steps", "3000000", "--out", str(folder),
    )  # fmt: skip
    person = ScriptedPerson(desktop, folder / "labels.db")
    person.wait_for_pair()
    seen: list[tuple] = []
    for kill in range(6):
        person.label(random.randint(2, 4))
        time.sleep(random.random() * 0.2)
        if kill % 2:
            trainer.kill()
            trainer.wait()
            trainer = start(desktop, "resume", str(folder))
        else:
            subprocess.run(["pkill", "-KILL", "-f", f"prefrl.cli label {folder}"], check=True)
            started = time.time()
            start(desktop, "label", str(folder))
            person.wait_for_pair(after=started)
        store = LabelStore(folder / "labels.db")
        rows = store.db.execute("SELECT id, query, answer FROM answers ORDER BY id").fetchall()
        store.close()
        assert rows[: len(seen)] == seen, "what was there stays"
        assert len(rows) > len(seen)
        assert len({row[1] for row in rows}) == len(rows), "no pair was answered twice"
        seen = rows
    for process in processes:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
    person.close()
    subprocess.run(["pkill", "-KILL", "-f", f"prefrl.cli label {folder}"])


def test_two_windows_share_the_work(start, tmp_path):
    folder = tmp_path / "shared"
    with Desktop() as first, Desktop() as second:
        training = start(
            first, "train", "prefrl/PointMass-v0", "--labeller", "human", "--wait-for-labels",
            "--out", str(folder),
        )  # fmt: skip
        ada = ScriptedPerson(first, folder / "labels.db")
        ada.wait_for_pair()
        session = sessions(folder).pop()
        start(second, "label", str(folder), "--labeller", "bob", "--probes", "0")
        until(lambda: len(sessions(folder)) == 2)
        (other,) = sessions(folder) - {session}
        people = [
            ScriptedPerson(desktop, folder / "labels.db", session=number)
            for desktop, number in ((first, session), (second, other))
        ]
        both_label = [
            threading.Thread(target=label_until, args=(person, folder, 30)) for person in people
        ]
        for thread in both_label:
            thread.start()
        for thread in both_label:
            thread.join()
        training.kill()
        training.wait()
        for desktop in (first, second):
            desktop.key("Escape")
        ada.close()
        time.sleep(1.0)
    store = LabelStore(folder / "labels.db")
    labels = store.labels()
    assert len(labels) >= 30
    given = store.db.execute("SELECT query FROM answers").fetchall()
    assert len(given) == len(set(given)), "no pair was answered twice"
    by_bob = [label.labeller == "bob" for label in labels]
    assert min(Counter(by_bob).values()) > 5
    store.close()


def label_until(person, folder, total):
    store = LabelStore(folder / "labels.db")

    def enough():
        return store.count_answered() >= total

    while not enough() and person.label(1, done=enough):
        pass
    store.close()
    person.close()


def sessions(folder):
    store = LabelStore(folder / "labels.db")
    found = {row[0] for row in store.db.execute("SELECT DISTINCT session FROM claims")}
    store.close()
    return found


def test_no_display_is_said_before_anything_is_written(tmp_path):
    environment = {k: v for k, v in os.environ.items() if k not in ("DISPLAY", "SDL_VIDEODRIVER")}
    for display in ({}, {"DISPLAY": ":9999"}):
        done = subprocess.run(
            [*PREFRL, "train", "prefrl/PointMass-v0", "--labeller", "human", "--out", "none"],
            env=environment | display,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 2
        assert done.stderr.startswith("prefrl: no display for the window")
        assert "--labeller oracle" in done.stderr
        assert done.stderr.count("\n") == 1
        assert not (tmp_path / "none").exists()
