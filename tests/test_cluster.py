"""A suite on a Ray cluster of this machine."""

import csv
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from compare import until

from prefrl.bench.bench import bench
from prefrl.errors import UserError

SUITE = """
about: A test.
seeds: 1
tasks:
  prefrl/PointMass-v0:
    run: {steps: 48_000, checkpoint_every: 960, evaluation_episodes: 2}
    labels: {budget: 8}
conditions:
  random: {query: {rule: random}}
  disagreement: {query: {rule: disagreement}}
"""
RAY = [str(Path(sys.executable).parent / "ray")]


@pytest.fixture
def suite(tmp_path):
    path = tmp_path / "tiny.yaml"
    path.write_text(SUITE)
    return str(path)


@pytest.fixture
def cluster(monkeypatch):
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")  # whatever token this user may have
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = ["--num-cpus=2", "--include-dashboard=false", "--disable-usage-stats", "--block"]
    head = subprocess.Popen(
        [*RAY, "start", "--head", f"--port={port}", *options],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    until(lambda: reachable(port), seconds=60)
    yield f"127.0.0.1:{port}"
    head.terminate()  # which ends all that it has started, and no other cluster
    head.wait(timeout=60)


def reachable(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_a_suite_survives_an_interrupt_and_a_lost_worker(cluster, suite, tmp_path):
    """Interrupted, then started again; then one of two workers is killed with what it trains."""
    run = tmp_path / "out" / "runs" / "prefrl-PointMass-v0-random-seed0"

    def start():
        command = [sys.executable, "-m", "prefrl.cli", "bench", suite, "--ray", cluster]
        with (tmp_path / "said.txt").open("a") as said:
            return subprocess.Popen([*command, "--out", "out"], stdout=said, stderr=said)

    def checkpoints():
        return {path.name for path in run.glob("checkpoints/step_*")}

    process = start()
    until(checkpoints, seconds=120)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=60) == 130
    assert "the same command goes on" in (tmp_path / "said.txt").read_text()
    until(lambda: not trainers(tmp_path))
    seen = checkpoints()
    process = start()
    until(lambda: checkpoints() - seen, seconds=120)
    (trainer,) = trainers(run)
    worker = int(re.search(r"PPid:\s(\d+)", Path(f"/proc/{trainer}/status").read_text())[1])
    os.kill(worker, signal.SIGKILL)
    os.kill(trainer, signal.SIGKILL)
    assert process.wait(timeout=200) == 0
    with (tmp_path / "out" / "results.csv").open(newline="") as file:
        rows = {row["condition"]: row for row in csv.DictReader(file)}
    assert all(rows[name]["true_return_mean"] for name in ("random", "disagreement"))
    assert "2/2  prefrl/PointMass-v0" in (tmp_path / "said.txt").read_text()


def trainers(folder):
    found = subprocess.run(["pgrep", "-f", f"prefrl.cli resume {folder}"], capture_output=True)
    return [int(number) for number in found.stdout.split()]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ray": "127.0.0.1:1"}, r"no Ray cluster at '127\.0\.0\.1:1': .*refused"),
        ({"ray": "nowhere"}, "an address is HOST:PORT"),
        ({"ray": "auto", "jobs": 2}, "leave --jobs out"),
    ],
)
def test_a_cluster_that_cannot_be_used(suite, tmp_path, options, message):
    with pytest.raises(UserError, match=message):
        bench(suite, out=tmp_path / "out", **options)
    assert not (tmp_path / "out" / "results.csv").exists()


def test_ray_is_asked_for_where_it_is_missing(suite, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match=r"pip install 'prefrl\[ray\]'"):
        bench(suite, out="out", ray="auto")
