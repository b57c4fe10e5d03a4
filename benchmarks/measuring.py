"""Lines of a table as they are measured, for the scripts beside this one."""

import argparse
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import torch

PREFRL = [sys.executable, "-m", "prefrl.cli"]

Line = tuple[str, str, str]
"""What was measured, its value, what it should be."""

Part = Callable[[Path], Iterator[Line]]
"""Measures one thing after the other, with an empty folder to do it in."""


def measure(about: str, parts: Mapping[str, Part]) -> None:
    """Measure the parts that the command line names, or all, and print a table."""
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(parts)}")
    chosen = parser.parse_args().parts or list(parts)
    if unknown := set(chosen) - set(parts):
        parser.error(f"unknown part '{unknown.pop()}': there are {', '.join(parts)}")
    torch.set_num_threads(1)
    print("| measured | | aim |\n| --- | --- | --- |", flush=True)
    for part in chosen:
        with tempfile.TemporaryDirectory() as folder:
            for what, value, target in parts[part](Path(folder)):
                print(f"| {what} | {value} | {target} |", flush=True)


def resident(pid: int | None = None) -> float:
    """Resident memory of a process, this one unless told, MB."""
    pages = int(Path(f"/proc/{pid or 'self'}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6
