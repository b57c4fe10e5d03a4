"""Checkpoints: folders that are whole or not there, the last two kept.

A checkpoint is written beside its final name and renamed; its manifest has the size and hash of
each file, so one that was cut short is told from a whole one and the older one serves.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

KEPT = 2
_MANIFEST = "manifest.json"
_NEEDED = {"policy.zip", "arrays.npz", "trainer.json"}


def save_checkpoint(folder: Path, step: int, write: Callable[[Path], None]) -> Path:
    """Write a checkpoint for `step` and drop all but the last two up to it.

    Later ones, which a run that goes on from this side of them could not use, go as well.

    Args:
        folder: The run's `checkpoints/`.
        step: The agent's step.
        write: Writes the files into the folder it is given.
    """
    final, part = folder / f"step_{step}", folder / f".step_{step}"
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        write(part)
        manifest = {file.name: _fingerprint(file) for file in sorted(part.iterdir())}
        (part / _MANIFEST).write_text(json.dumps(manifest, indent=1))
        for file in part.iterdir():
            with file.open("rb") as handle:
                os.fsync(handle.fileno())
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)  # on a full disk, its room is needed
        raise
    shutil.rmtree(final, ignore_errors=True)
    part.replace(final)
    found = list_checkpoints(folder)
    for useless in found[: found.index(final)] + found[found.index(final) + KEPT :]:
        shutil.rmtree(useless)
    return final


def list_checkpoints(folder: Path) -> list[Path]:
    """Checkpoints, latest first, whole or not."""
    found = [path for path in folder.glob("step_*") if path.name[5:].isdigit()]
    return sorted(found, key=lambda path: int(path.name[5:]), reverse=True)


def is_whole(checkpoint: Path) -> bool:
    """Whether each file of a checkpoint is as it was written."""
    try:
        manifest = json.loads((checkpoint / _MANIFEST).read_text())
        return set(manifest) >= _NEEDED and all(
            _fingerprint(checkpoint / name) == mark for name, mark in manifest.items()
        )
    except (OSError, ValueError, AttributeError, TypeError):
        return False


def _fingerprint(file: Path) -> list[int | str]:
    data = file.read_bytes()
    return [len(data), hashlib.sha256(data).hexdigest()]
