"""The command line: each command is a thin call of one public function.

Exit codes: 0 done, 1 failed while running (resumable), 2 the input is wrong, 130 interrupted.
"""

import argparse
import atexit
import contextlib
import errno
import io
import json
import logging
import os
import signal
import sqlite3
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

from prefrl import __version__
from prefrl.errors import RunFailed, UserError


class OneSentence(argparse.ArgumentParser):
    """Says what is wrong in one sentence, without the usage before it."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"prefrl: {message}; `{self.prog} --help` lists what there is\n")


def parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    top = OneSentence(
        prog="prefrl",
        description="Train agents from answers about pairs of short clips.",
    )
    top.add_argument("--version", action="version", version=f"prefrl {__version__}")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, call: Callable, text: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        added.set_defaults(call=call)
        return added

    train = command("train", _train, "train an agent from labels")
    add = train.add_argument
    add("env_id", metavar="ENV", help="Gymnasium id; module:Id-v0 imports the module first")
    add("--labels", type=_whole, help="labels to ask for (default: the preset's, or 700)")
    add("--steps", type=_whole, help="environment steps (default: the preset's, or 1000000)")
    add("--labeller", choices=["oracle", "human", "none"], help="(default: oracle)")
    add("--ask", metavar="TEXT", help="what a person is asked about each pair")
    add("--wait-for-labels", action="store_true", help="train only as far as labels allow")
    add("--teacher", metavar="TEACHER", help="how the oracle errs: stoc, mistake=0.2, ...")
    add("--oracle", metavar="FILE.py:FUNC", help="scores a clip in place of the true reward")
    add("--query", metavar="RULE", help="which pairs are asked: random, entropy, ..., FILE.py:FUNC")
    add("--seed", type=int, help="decides the whole run (default: 0)")
    add("--out", metavar="DIR", help="the run folder (default: runs/ENV-seedN)")
    add("--preset", metavar="NAME", help="a preset, or the path of a YAML file")
    add("--true-reward", action="store_true", help="train on the environment's own reward")
    add("--labels-from", metavar="DB", help="a finished labels.db to start from")
    early = "let episodes end early; what is shorter than a clip is not asked about"
    add("--allow-termination", action="store_true", help=early)
    _quiet(train)

    resume = command("resume", _resume, "go on with a run that was stopped")
    resume.add_argument("run", metavar="RUN")
    _quiet(resume)

    label = command("label", _label, "open a window to answer in, on a run")
    label.add_argument("run", metavar="RUN")
    label.add_argument("--review", action="store_true", help="look through answers; correct them")
    label.add_argument("--export", metavar="FILE.csv", help="write the answers as a table instead")
    label.add_argument("--labeller", metavar="NAME", help="who answers (default: login name)")
    label.add_argument("--probes", type=float, metavar="SHARE", help="pairs asked twice, 0 to 0.5")
    label.add_argument("--theme", choices=["dark", "light"], default="dark", help="(default: dark)")

    evaluate = command("evaluate", _evaluate, "score a run's policy in fresh episodes")
    evaluate.add_argument("run", metavar="RUN")
    evaluate.add_argument("--episodes", type=int, default=20, help="(default: 20)")
    evaluate.add_argument("--json", action="store_true", help="print one JSON object")
    _quiet(evaluate)

    video = command("video", _video, "write an mp4 of a run's policy")
    video.add_argument("run", metavar="RUN")
    video.add_argument("out", metavar="OUT.mp4", nargs="?", help="(default: in RUN/videos)")
    video.add_argument("--seconds", type=float, help="length (default: 10, or one episode)")
    video.add_argument("--best", action="store_true", help="the best of 20 episodes")
    _quiet(video)

    report = command("report", _report, "draw what a run learned, from what, and how")
    report.add_argument("run", metavar="RUN")
    out = "a .png, .svg or .pdf (default: RUN/report.png)"
    report.add_argument("out", metavar="OUT", nargs="?", help=out)
    _quiet(report)

    bench = command("bench", _bench, "run a suite of benchmarks")
    bench.add_argument("suite", metavar="SUITE", help="a suite, or the path of a YAML file")
    bench.add_argument("--seeds", type=int, help="seeds for each task (default: the suite's)")
    bench.add_argument("--jobs", type=int, help="runs at a time (default: one for each core)")
    bench.add_argument("--out", metavar="DIR", help="results folder (default: runs/bench/SUITE)")
    bench.add_argument("--anchors", metavar="FILE.csv", help="published figures to draw beside")
    bench.add_argument("--ray", metavar="ADDRESS", help="run it on that Ray cluster")
    _quiet(bench)

    demo = command("demo", _demo, "learn the backflip from 100 labels; leave report and video")
    demo.add_argument("--out", metavar="DIR", help="the run folder (default: runs/demo)")
    _quiet(demo)

    command("info", _info, "versions, renderer, display, where things are kept")
    return top


def _whole(text: str) -> int:
    """A whole number, also one written like 1e6."""
    try:
        return int(text)
    except ValueError:
        pass
    try:
        if (number := float(text)).is_integer():
            return int(number)
    except ValueError:
        pass
    raise argparse.ArgumentTypeError(f"'{text}' is not a whole number")


def _quiet(command: argparse.ArgumentParser) -> None:
    command.add_argument("--quiet", action="store_true", help="print results only")


def _train(args: argparse.Namespace) -> None:
    from prefrl.trainer import train

    options = {k: v for k, v in vars(args).items() if k not in ("command", "call", "env_id")}
    _print_result(train(args.env_id, **options).record["result"])


def _resume(args: argparse.Namespace) -> None:
    from prefrl.trainer import resume

    _print_result(resume(args.run, quiet=args.quiet).record["result"])


def _label(args: argparse.Namespace) -> None:
    from prefrl.labelling import export, label

    given = [f"--{name}" for name in ("review", "labeller", "probes") if getattr(args, name)]
    if args.export is not None and given:
        logging.warning("--export makes no use of %s", ", ".join(given))
    elif args.review and "--probes" in given:
        logging.warning("--review makes no use of --probes")
    if args.export is not None:
        print(export(args.run, args.export))
        return
    options = {k: getattr(args, k) for k in ("review", "labeller", "probes", "theme")}
    print(label(args.run, **options))


def _evaluate(args: argparse.Namespace) -> None:
    from prefrl.evaluation import evaluate

    with contextlib.redirect_stdout(sys.stderr):  # what the user's own code prints is no result
        summary = evaluate(args.run, episodes=args.episodes)
    if args.json:
        from prefrl.files import finite

        print(json.dumps(finite(summary), allow_nan=False))
        return
    best = summary["best_episode"]
    print(f"{summary['episodes']} episodes; the best has the highest {best['by']}")
    print(f"{'':24} {'mean':>12} {'sd':>12} {'best episode':>14}")
    spreads = {k: v for k, v in summary.items() if k.endswith("_return")} | summary["info"]
    for name, spread in spreads.items():
        values = [spread["mean"], spread["std"], spread.get("best", float("nan"))]
        print("{:24} {:12.3f} {:12.3f} {:14.3f}".format(name, *values))


def _video(args: argparse.Namespace) -> None:
    from prefrl.filming import video

    print(video(args.run, args.out, seconds=args.seconds, best=args.best))


def _report(args: argparse.Namespace) -> None:
    from prefrl.reporting import report

    print(report(args.run, args.out))


def _bench(args: argparse.Namespace) -> None:
    from prefrl.bench.bench import bench

    options = {k: getattr(args, k) for k in ("seeds", "jobs", "out", "anchors", "ray", "quiet")}
    print(bench(args.suite, **options))


def _demo(args: argparse.Namespace) -> None:
    from prefrl.demo import demo

    for path in demo(args.out, quiet=args.quiet):
        print(path)


def _info(args: argparse.Namespace) -> None:
    from prefrl.about import info

    for name, value in info().items():
        print(f"{name:20} {value}")


def _print_result(result: dict) -> None:
    from prefrl.metrics import in_figures

    mean, std = (result[f"true_return_{k}"] for k in ("mean", "std"))
    returned = "is not a number" if mean is None else f"{in_figures(mean)} ± {in_figures(std)}"
    print(
        f"true return {returned} "
        f"over {result['episodes']} episodes, after {result['labels_answered']} labels and "
        f"{result['steps']:,} steps ({result['steps_per_second']:,.0f} steps/s)"
    )


def _check_renderer() -> None:
    """Refuse a MUJOCO_GL that MuJoCo does not know; importing it would fail anywhere.

    Raises:
        UserError: Names those that it knows.
    """
    known = {"", "egl", "osmesa", "glfw", "glx", "cgl", "wgl"}
    known |= {"1", "on", "true", "enable", "enabled", "0", "off", "false", "disable", "disabled"}
    if (value := os.environ.get("MUJOCO_GL", "").strip()).lower() not in known:
        raise UserError(f"MUJOCO_GL is '{value}': set it to egl, osmesa or glfw, or not at all")


def _drop_output() -> None:
    """Let what is still to be printed go nowhere, or Python would try once more as it exits."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """What the arguments say.

    Python's parser takes `video RUN --best OUT.mp4` for a video without OUT, and OUT for a rest.
    """
    top = parser()
    args, rest = top.parse_known_args(arguments)
    if args.command == "video" and args.out is None and rest and not rest[0].startswith("-"):
        args.out = rest.pop(0)
    if rest:
        top.prog = f"prefrl {args.command}"
        top.error(f"unrecognized arguments: {' '.join(rest)}")
    return args


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; give its exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # of a terminal that has no ±, say
            stream.reconfigure(errors="replace")
    args = parse(arguments)
    logging.basicConfig(format="%(message)s", stream=sys.stderr, level=logging.WARNING)
    try:
        _check_renderer()
        args.call(args)
        sys.stdout.flush()
    except (UserError, RunFailed) as error:
        print(f"prefrl: {error}", file=sys.stderr)
        return error.exit_code
    except sqlite3.DatabaseError as error:
        print(f"prefrl: the label store cannot be used: {error}", file=sys.stderr)
        return RunFailed.exit_code
    except BrokenPipeError:  # whoever read the output has enough, as `head` does
        _drop_output()
        return RunFailed.exit_code
    except OSError as error:
        if error.errno == errno.ENOSPC:
            _drop_output()
            print(f"prefrl: cannot write the output: {error.strerror}", file=sys.stderr)
            return RunFailed.exit_code
        if error.errno not in (errno.ENAMETOOLONG, errno.EACCES) or not error.filename:
            raise
        print(f"prefrl: cannot read '{error.filename}': {error.strerror}", file=sys.stderr)
        return UserError.exit_code
    except KeyboardInterrupt:
        print("prefrl: interrupted", file=sys.stderr)
        return 130
    finally:  # all is done: what libraries tidy up at the very end is not to be interrupted
        atexit.register(signal.signal, signal.SIGINT, signal.SIG_IGN)
    return 0


if __name__ == "__main__":
    sys.exit(main())
