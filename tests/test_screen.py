"""What the window shows, in every size and colour, and on which pygame."""

from dataclasses import replace

import numpy as np
import pygame
import pytest

from prefrl.errors import UserError
from prefrl.labellers import display
from prefrl.labellers.keys import KEYS
from prefrl.labellers.player import Progress
from prefrl.labellers.screen import THEMES
from prefrl.labellers.session import status


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("size", [(640, 400), (1280, 800), (700, 1200), (3840, 2160)])
def test_everything_has_its_place_in_every_size(sit, size, theme):
    desktop = sit(size=size)
    desktop.window._screen.theme = theme
    desktop.window._help = True
    desktop.window._question = "Which one is closer to a backward somersault? " * 3
    desktop.press(pygame.K_h)
    surface = desktop.window._window.get_surface()
    assert surface.get_size() == size
    places = desktop.window._screen.places
    assert {"left", "right", "equal", "skip", "back", "pause"} <= {name for _, name in places}
    for i, (place, name) in enumerate(places):
        assert surface.get_rect().contains(place), name
        for other, other_name in places[:i]:
            assert not place.colliderect(other), (name, other_name)
    clips = [p for p, name in places if name in ("left", "right")][2:]
    assert all(p.width > 0.35 * size[0] or p.height > 0.4 * size[1] for p in clips)
    assert all(p.height >= 15 for p, _ in places)


LONG = "If both fall, prefer the one that falls later, or else the one that lies more quietly. "


def point_at(desktop, x, y):
    pygame.event.post(pygame.event.Event(pygame.MOUSEMOTION, pos=(x, y), rel=(0, 0), buttons=()))
    desktop.tick()
    return pygame.surfarray.array3d(desktop.window._window.get_surface())


@pytest.mark.parametrize("question", [LONG * 25, "prefer" * 200], ids=["words", "one word"])
def test_a_question_too_long_is_cut_and_shown_in_full_where_one_points_at_it(sit, question):
    desktop = sit(size=(640, 400))
    drawn = []
    draw = desktop.window._screen._type.line
    desktop.window._screen._type.line = lambda *line: drawn.append(line[0]) or draw(*line)
    desktop.window._question = question
    before = point_at(desktop, 320, 300)
    pygame.event.post(pygame.event.Event(pygame.WINDOWEXPOSED))
    drawn.clear()
    desktop.tick()
    cut = [line for line in drawn if line.endswith("…") and line[:-1] in question]
    assert len(cut) == 1
    assert desktop.window._screen.cut_question.bottom < 100
    drawn.clear()
    shown = point_at(desktop, 320, 10)
    assert not np.array_equal(shown, before)
    panel = "".join(drawn).replace(" ", "")
    assert question.replace(" ", "") in panel, "all of it"
    drawn.clear()
    point_at(desktop, 320, 300)
    assert question.replace(" ", "") not in "".join(drawn).replace(" ", "")
    point_at(desktop, 320, 10)
    pygame.event.post(pygame.event.Event(pygame.WINDOWLEAVE))
    pygame.event.post(pygame.event.Event(pygame.WINDOWEXPOSED))
    drawn.clear()
    desktop.tick()
    assert drawn
    assert question.replace(" ", "") not in "".join(drawn).replace(" ", "")


def test_a_question_that_fits_is_not_cut(sit):
    desktop = sit(size=(640, 400))
    point_at(desktop, 320, 10)
    assert desktop.window._screen.cut_question is None
    assert not desktop.window._whole_question


def test_colours_of_answers_differ_in_brightness_from_what_they_lie_on():
    def luminance(colour):
        parts = [c / 255 for c in colour]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    def contrast(a, b):  # WCAG 2.1
        light, dark = sorted((luminance(a), luminance(b)), reverse=True)
        return (light + 0.05) / (dark + 0.05)

    for theme in THEMES.values():
        assert contrast(theme.text, theme.back) > 7
        assert contrast(theme.dim, theme.back) > 4.5
        for colour in theme.answers.values():
            assert contrast(colour, theme.back) > 3


def test_every_key_is_explained(sit):
    desktop = sit()
    actions = set(KEYS.values())
    shown = {name for _, name in desktop.window._screen.places}
    assert actions - shown == {"theme", "close"}, "all but these are buttons too"


def test_no_sound_device_is_opened(sit):
    sit()
    assert pygame.mixer.get_init() is None


def test_status_line():
    progress = Progress(
        given=12,
        budget=40,
        waiting=3,
        step=4000,
        steps=30_000,
        steps_per_second=1234.5,
        noted=1.0,
        state="training",
    )
    line = status(progress, [2.0, 3.0, 4.0])
    for part in ("12 of 40 labels", "3.0 s per label", "3 pairs waiting", "4,000", "1,234 steps/s"):
        assert part in line
    assert status(replace(progress, state="untaught"), []).endswith("has ended: too few labels")


def test_plain_pygame_is_told_apart(monkeypatch):
    monkeypatch.setattr(pygame, "IS_CE", False)
    with pytest.raises(UserError, match="stands in the place of pygame-ce: pip uninstall"):
        display.check_pygame()


def test_plain_pygame_beside_is_told_too(monkeypatch):
    monkeypatch.setattr(display, "version", lambda name: "2.6.1")
    with pytest.raises(UserError, match="both installed"):
        display.check_pygame()
