"""A suite from its name to its tables and pictures."""

import logging
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from prefrl.bench.anchors import Anchor, read_anchors
from prefrl.bench.board import Board
from prefrl.bench.plots import draw
from prefrl.bench.provenance import LOCK
from prefrl.bench.results import Results, Row, make_folder, write_table
from prefrl.bench.runner import News, run_cells
from prefrl.bench.suites import RANDOM_ACTIONS, Cell, Suite, load_suite
from prefrl.bench.summary import summarise
from prefrl.checks import check_start
from prefrl.errors import DISK_ERRORS, RunFailed, UserError, sentence
from prefrl.evaluation import random_returns
from prefrl.lock import hold

log = logging.getLogger("prefrl")

Runner = Callable[[Sequence[Cell], Path], Iterator[News | None]]
"""Trains cells to their end in a folder; `prefrl.bench.runner.run_cells` says how."""


def bench(
    suite: str,
    *,
    seeds: int | None = None,
    jobs: int | None = None,
    out: str | Path | None = None,
    anchors: str | Path | None = None,
    ray: str | None = None,
    quiet: bool = False,
) -> Path:
    """Run what is missing of a suite, write its tables and draw its pictures.

    Args:
        suite: A suite's name or a YAML file's path.
        seeds: How many for each task; None: as the suite says. Rows of more that are there count.
        jobs: Processes at a time, one thread each; None: one for each core.
        out: The results folder; None: `runs/bench/SUITE`. Finished runs in it are reused, those
            that were stopped go on.
        anchors: A CSV of published figures, such as `benchmarks/anchors.csv`, to be drawn where
            task, labels and steps agree.
        ray: Address of a Ray cluster that runs the suite instead of this machine; see
            `prefrl.bench.cluster`.
        quiet: Print nothing while it runs.

    Returns:
        The results folder.

    Raises:
        UserError: The suite is wrong, or the folder holds results of another version or
            configuration; nothing was run.
        RunFailed: Some runs failed, or the disk did; all others are in the tables.
        Interrupted: The user stopped it; the same call goes on.
    """
    if seeds is not None and seeds < 1:
        raise UserError(f"seeds must be at least 1, got {seeds}")
    if jobs is not None and jobs < 1:
        raise UserError(f"jobs must be at least 1, got {jobs}")
    if ray is not None and jobs is not None:
        raise UserError("a Ray cluster runs as many jobs as it has cores: leave --jobs out")
    found = load_suite(suite)
    published = read_anchors(Path(anchors)) if anchors is not None else []
    cells = found.cells(seeds)
    folder = Path(out) if out is not None else Path("runs") / "bench" / found.name
    is_new = not folder.exists()
    make_folder(folder)
    try:
        with hold(folder / LOCK) as alone:
            if not alone:
                raise UserError(f"'{folder}' is in use by another bench: give another --out")
            try:
                results = Results(folder)  # not before: another bench may have added rows
                with _runner(ray, jobs) as (at_a_time, run):
                    board = Board(cells, results.of(found), at_a_time, quiet=quiet)
                    _run(found, cells, results, published, board, run)
            except UserError:
                if not (folder / "suite.yaml").exists():  # nothing was begun in it
                    if is_new:
                        shutil.rmtree(folder)
                    else:
                        (folder / LOCK).unlink()
                raise
    except OSError as error:
        if error.errno not in DISK_ERRORS:
            raise
        raise RunFailed(
            f"the suite stopped because of its disk ({error}); what is finished is whole, and the "
            f"same command goes on"
        ) from error
    if board.failures:
        (task, condition, seed), reason = next(iter(board.failures.items()))
        raise RunFailed(
            f"{len(board.failures)} of {len(cells)} runs failed, {task} {condition} seed {seed} "
            f"with '{reason}'; the same command tries them again"
        )
    return folder


@contextmanager
def _runner(ray: str | None, jobs: int | None) -> Iterator[tuple[int, Runner]]:
    """How many cells are trained at a time, and what trains them."""
    if ray is not None:
        from prefrl.bench.cluster import RayCluster

        with RayCluster(ray) as cluster:
            yield cluster.cores, cluster.run_cells
        return
    cores = len(os.sched_getaffinity(0))
    if (jobs or 0) > cores:
        log.warning("%d jobs on %d cores: each run will be slower", jobs, cores)
    yield jobs or cores, partial(run_cells, jobs=jobs or cores)


def _run(
    suite: Suite,
    cells: Sequence[Cell],
    results: Results,
    anchors: Sequence[Anchor],
    board: Board,
    run: Runner,
) -> None:
    """Run what is missing, write and draw; the board knows why cells failed."""
    missing = results.missing(cells)
    for task, condition in dict.fromkeys((c.task, c.condition) for c in missing):
        try:
            check_start(suite.config(task, condition))
        except UserError as error:
            where = f"suite '{suite.name}', {task} under '{condition}'"
            raise UserError(f"{where}: {error}") from None
    results.claim(suite)
    _measure_random_actions(suite, results)

    def note(news: News) -> None:
        failure = news.failure
        if news.run:
            try:
                board.finished(results.add(news.cell, news.run))
            except RunFailed as error:
                failure = str(error)
        elif not failure:
            board.started(news.cell, news.folder)
        if failure:
            results.fail(news.cell, failure)
            board.failed(news.cell, failure)

    try:
        with board:
            for news in run(missing, results.runs):
                if news:
                    note(news)
                else:
                    board.refresh()
    finally:
        conclude(suite, results.folder, anchors)


def conclude(suite: Suite, folder: Path, anchors: Sequence[Anchor] = ()) -> None:
    """Write the aggregate of what a folder's tables have of a suite, and draw its pictures."""
    results = Results(folder)
    rows = results.of(suite)
    summaries = summarise(rows, reference=suite.reference, baseline=suite.baseline)
    if not summaries:
        return
    write_table(folder / "aggregate.csv", [summary.cells() for summary in summaries])
    draw(
        folder,
        rows,
        results.curves,
        summaries,
        title=suite.about,
        reference=suite.reference,
        baseline=suite.baseline,
        anchors=anchors,
    )


def _measure_random_actions(suite: Suite, results: Results) -> None:
    """Add the return of random actions, which counts as 0, for each task that lacks it."""
    for task in suite.tasks:
        if (task, RANDOM_ACTIONS, 0) not in results.rows:
            try:
                returns = random_returns(suite.reference_env(task))
            except Exception as error:  # the user's own code may fail in any way
                log.warning("random actions in %s fail: %s", task, sentence(error))
                continue
            results.put(Row(task, RANDOM_ACTIONS, 0, float(returns.mean()), float(returns.std())))
