"""The window's letters: one font in all sizes, lines fitted and wrapped to a width."""

from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import pygame

Colour = tuple[int, int, int]

KEPT = 256
"""Drawn lines kept."""


class Typeface:
    """DejaVu Sans, which has arrows and most alphabets; pygame's own font where it is missing."""

    def __init__(self) -> None:
        self._file = _font_file()
        self._fonts: dict[int, pygame.font.Font] = {}
        self._lines: dict[tuple[str, int, Colour], pygame.Surface] = {}

    def font(self, size: int) -> pygame.font.Font:
        """The font of that height in pixels."""
        if size not in self._fonts:
            self._fonts[size] = pygame.font.Font(self._file, size)
        return self._fonts[size]

    def line(self, text: str, size: int, colour: Colour) -> pygame.Surface:
        """A drawn line."""
        key = (text, size, colour)
        if key not in self._lines:
            if len(self._lines) >= KEPT:
                del self._lines[next(iter(self._lines))]
            self._lines[key] = self.font(size).render(text, True, colour)
        return self._lines[key]

    def width(self, text: str, size: int) -> int:
        """Pixels that a line takes."""
        return self.font(size).size(text)[0]

    def height(self, size: int) -> int:
        """Pixels from one line to the next."""
        return self.font(size).get_height()

    def fit(self, text: str, size: int, width: int) -> str:
        """`text`, cut where it is wider than `width` pixels."""
        if self.width(text, size) <= width:
            return text
        while text and self.width(text + "…", size) > width:
            text = text[:-1].rstrip()
        return text + "…"

    def wrap(self, text: str, size: int, width: int) -> list[str]:
        """Lines of `text` that are at most `width` pixels wide; only longer words are broken."""
        lines = [""]
        for word in text.split():
            for part in self._parts(word, size, width):
                longer = f"{lines[-1]} {part}".strip()
                if self.width(longer, size) <= width or not lines[-1]:
                    lines[-1] = longer
                else:
                    lines.append(part)
        return lines

    def _parts(self, word: str, size: int, width: int) -> Iterator[str]:
        """The word, in parts of at most `width` pixels or one character."""
        while len(word) > 1 and self.width(word, size) > width:
            fitting = (n for n in range(1, len(word)) if self.width(word[: n + 1], size) > width)
            end = next(fitting)
            yield word[:end]
            word = word[end:]
        yield word


@cache
def _font_file() -> str | None:
    """The font file that comes with matplotlib."""
    spec = find_spec("matplotlib")
    if spec is None or spec.origin is None:
        return None
    file = Path(spec.origin).parent / "mpl-data" / "fonts" / "ttf" / "DejaVuSans.ttf"
    return str(file) if file.exists() else None
