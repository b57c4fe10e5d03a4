"""The window's letters: one font in all sizes, lines fitted and wrapped to a width."""

import contextlib
from collections.abc import Iterator
from functools import cache, partial
from importlib.util import find_spec
from itertools import groupby
from pathlib import Path

import pygame

Colour = tuple[int, int, int]

KEPT = 256
"""Drawn lines kept."""


class Typeface:
    """DejaVu Sans, which has arrows and most alphabets; pygame's own font where it is missing.

    Letters that it does not have, such as Chinese ones, are drawn in a font of the system's.
    """

    def __init__(self) -> None:
        self._file = _font_file()
        self._fonts: dict[tuple[str | None, int], pygame.font.Font] = {}
        self._lines: dict[tuple[str, int, Colour], pygame.Surface] = {}

    def line(self, text: str, size: int, colour: Colour) -> pygame.Surface:
        """A drawn line."""
        key = (text, size, colour)
        if key not in self._lines:
            if len(self._lines) >= KEPT:
                del self._lines[next(iter(self._lines))]
            parts = [
                font.render(part, True, colour) for font, part in self._parts_by_font(text, size)
            ]
            self._lines[key] = parts[0] if len(parts) == 1 else _side_by_side(parts)
        return self._lines[key]

    def width(self, text: str, size: int) -> int:
        """Pixels that a line takes."""
        return sum(font.size(part)[0] for font, part in self._parts_by_font(text, size))

    def _parts_by_font(self, text: str, size: int) -> list[tuple[pygame.font.Font, str]]:
        """The text in parts, each with a font of that height in pixels that has its letters."""
        if self._file is None or text.isascii():
            return [(self._font(self._file, size), text)]
        by_file = groupby(text, partial(font_with, usual=self._file))
        return [(self._font(file, size), "".join(part)) for file, part in by_file]

    def _font(self, file: str | None, size: int) -> pygame.font.Font:
        if (file, size) not in self._fonts:
            font = pygame.font.Font(file, size)
            if file != self._file and font.get_height() > (height := self.height(size)):
                font = pygame.font.Font(file, max(1, size * height // font.get_height()))
            self._fonts[file, size] = font
        return self._fonts[file, size]

    def height(self, size: int) -> int:
        """Pixels from one line to the next."""
        return self._font(self._file, size).get_height()

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


@cache
def font_with(letter: str, usual: str) -> str:
    """The usual font's file, or, where that lacks the letter, that of the system's first with it.

    Args:
        letter: What has to be drawn.
        usual: Taken where no font has it, too.
    """
    if letter in _letters(usual):
        return usual
    for name in sorted(pygame.font.get_fonts(), key=lambda name: ("sans" not in name, name)):
        file = pygame.font.match_font(name)
        with contextlib.suppress(RuntimeError, OSError, pygame.error):  # not all can be read
            if file and letter in _letters(file):
                pygame.font.Font(file, 20)
                return file
    return usual


@cache
def _letters(file: str) -> frozenset[str]:
    """All that a font has."""
    from matplotlib.ft2font import FT2Font

    return frozenset(map(chr, FT2Font(file).get_charmap()))


def _side_by_side(parts: list[pygame.Surface]) -> pygame.Surface:
    """The parts of a line on one surface, as low as the lowest."""
    size = sum(part.get_width() for part in parts), max(part.get_height() for part in parts)
    line = pygame.Surface(size, pygame.SRCALPHA)
    left = 0
    for part in parts:
        line.blit(part, (left, size[1] - part.get_height()))
        left += part.get_width()
    return line
