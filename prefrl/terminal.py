"""A picture on the terminal that is drawn anew in place, with plain lines above it."""

from types import TracebackType
from typing import Self

from rich.console import Console, RenderableType
from rich.live import Live


class TerminalView:
    """Lines that stay and, where there is a terminal, a picture that changes below them.

    Args:
        quiet: Show nothing.
    """

    def __init__(self, *, quiet: bool) -> None:
        self._console = Console(stderr=True, quiet=quiet)
        self._live = Live(console=self._console, auto_refresh=False)
        self.on_terminal = self._console.is_terminal and not quiet
        """Whether the picture is shown."""

    def __enter__(self) -> Self:
        if self.on_terminal:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.on_terminal:
            self._live.stop()

    def say(self, line: str) -> None:
        """Print a line that stays."""
        self._console.print(line, soft_wrap=True, highlight=False, markup=False)

    def show(self, picture: RenderableType) -> None:
        """Draw the picture anew, where there is a terminal."""
        if self.on_terminal:
            self._live.update(picture, refresh=True)
