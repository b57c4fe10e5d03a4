"""The window's letters."""

from pathlib import Path

import matplotlib
import pygame
import pytest

from prefrl.labellers import typeface
from prefrl.labellers.typeface import Typeface, font_with

FONTS = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
USUAL, SYSTEM = str(FONTS / "cmr10.ttf"), str(FONTS / "DejaVuSans.ttf")


@pytest.fixture
def latin_alone(monkeypatch):
    """A usual font without Cyrillic, on a system that has a font with it, and one that breaks."""
    pygame.font.init()
    font_with.cache_clear()
    fonts = {"a sans that is broken": __file__, "other": SYSTEM, "a serif without": USUAL}
    monkeypatch.setattr(typeface, "_font_file", lambda: USUAL)
    monkeypatch.setattr(pygame.font, "get_fonts", lambda: list(fonts))
    monkeypatch.setattr(pygame.font, "match_font", fonts.get)
    yield
    font_with.cache_clear()


def drawn(letters: Typeface, text: str) -> bytes:
    return pygame.image.tobytes(letters.line(text, 30, (255, 255, 255)), "RGBA")


def test_letters_that_the_font_lacks_come_from_the_system(latin_alone, monkeypatch):
    letters = Typeface()
    assert drawn(letters, "Я") != drawn(letters, "Ю"), "not two boxes"
    assert font_with("Я", USUAL) == SYSTEM
    mixed = letters.line("Which Ящик?", 30, (0, 0, 0))
    assert mixed.get_width() == letters.width("Which Ящик?", 30)
    assert mixed.get_height() == letters.height(30), "it fits into its line"


def test_what_no_font_has_is_drawn_all_the_same(latin_alone):
    assert font_with("哪", USUAL) == USUAL
    assert Typeface().line("哪", 30, (0, 0, 0)).get_width() > 0
