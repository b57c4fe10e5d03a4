"""The three ways a command ends other than well; `prefrl.cli` turns each into its exit code."""

import errno
import sysconfig
import traceback
from pathlib import Path

DISK_ERRORS = {
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EFBIG,
    errno.EROFS,
    errno.EIO,
    errno.EACCES,
    errno.EPERM,
    errno.ENOENT,
    errno.ENOTDIR,
    errno.ESTALE,
}
"""`OSError.errno` of a disk: full, over quota, too large, read-only, broken, not ours, or no longer
holding what was there."""


class UserError(ValueError):
    """The user's input is wrong: one sentence with the value, what was expected, what to type."""

    exit_code = 2


class RunFailed(RuntimeError):
    """A run stopped while running; the message says why and how to resume."""

    exit_code = 1


class CodeFailed(RunFailed):
    """The user's environment, oracle or query rule failed: once it is mended, the run can go on."""


class Interrupted(RunFailed):
    """A run was interrupted on purpose and can go on; the message says how."""

    exit_code = 130


def one_line(error: object) -> str:
    """What an error says, without its line breaks; if that is nothing, the name of its class."""
    return " ".join(str(error).split()) or type(error).__name__


def sentence(error: BaseException) -> str:
    """What went wrong in someone else's code, on one line, and where in it."""
    name, said = type(error).__name__, one_line(error)
    return (name if said == name else f"{name}: {said}") + place(error)


def place(error: BaseException) -> str:
    """The last line of code that is neither prefrl's nor a library's; empty if there is none."""
    libraries = (str(Path(__file__).parent), sysconfig.get_path("stdlib"), "<")
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        parts = Path(frame.filename).parts
        if not frame.filename.startswith(libraries) and "site-packages" not in parts:
            return f" ({Path(frame.filename).name}, line {frame.lineno})"
    return ""


def nearest(word: str, known: list[str]) -> str:
    """A sentence that names the spelling closest to `word`, or all of `known` if none is close."""
    import difflib

    close = difflib.get_close_matches(word, known, n=1, cutoff=0.4)
    if close:
        return f"did you mean '{close[0]}'?"
    return f"choose one of: {', '.join(sorted(known))}"
