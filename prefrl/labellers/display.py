"""The display: whether a window can be opened here, and what to mend where it cannot."""

import os
import sys
from importlib.metadata import PackageNotFoundError, version

from prefrl.errors import UserError

os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")

MEND = "pip uninstall -y pygame pygame-ce, then pip install pygame-ce"


def check_pygame() -> None:
    """Refuse an installation in which pygame's files are not pygame-ce's.

    Raises:
        UserError: Says how to mend it.
    """
    import pygame

    try:
        other = version("pygame")
    except PackageNotFoundError:
        other = None
    if not getattr(pygame, "IS_CE", False):
        raise UserError(f"pygame {pygame.version.ver} stands in the place of pygame-ce: {MEND}")
    if other:
        raise UserError(
            f"pygame {other} and pygame-ce are both installed and overwrite each other: {MEND}"
        )


def open_display() -> None:
    """Start pygame's display and fonts, and nothing else: no sound device is opened.

    Raises:
        UserError: There is no display, or pygame-ce is not installed properly.
    """
    check_pygame()
    import pygame

    if sys.platform == "linux" and not os.environ.get("SDL_VIDEODRIVER"):
        # Named, because SDL would go on to drivers that show nothing, and print about others.
        drivers = {"x11": "DISPLAY", "wayland": "WAYLAND_DISPLAY"}
        found = [driver for driver, variable in drivers.items() if os.environ.get(variable)]
        if not found:
            raise UserError(_no_display("neither DISPLAY nor WAYLAND_DISPLAY is set"))
        os.environ["SDL_VIDEODRIVER"] = ",".join(found)
    try:
        pygame.display.init()
    except pygame.error as error:
        raise UserError(_no_display(str(error))) from None
    pygame.font.init()


def check_display() -> None:
    """Try whether `open_display` would work.

    Raises:
        UserError: As `open_display`.
    """
    open_display()
    close_display()


def close_display() -> None:
    """Let go of the display and the fonts."""
    import pygame

    pygame.font.quit()
    pygame.display.quit()


def _no_display(why: str) -> str:
    return (
        f"no display for the window ({why}): set DISPLAY or WAYLAND_DISPLAY to one, such as by "
        f"`ssh -X`"
    )
