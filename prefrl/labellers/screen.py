"""The window's picture: two clips, the question above, the keys as buttons below.

`Screen.draw` paints a `Scene` and gives the places that take clicks. Everything is laid out from
the window's size in pixels, between 640 x 400 and 4K, with text that stays readable.
"""

from dataclasses import dataclass, field

import numpy as np
import pygame

from prefrl.labellers.notice import Notice
from prefrl.labellers.typeface import Colour, Typeface


@dataclass(frozen=True)
class Theme:
    """Colours; those of the answers are Okabe and Ito's, which colour-blind people tell apart."""

    back: Colour
    panel: Colour
    edge: Colour
    text: Colour
    dim: Colour
    warn: Colour
    answers: dict[str, Colour]


THEMES = {
    "dark": Theme(
        back=(24, 26, 30),
        panel=(44, 48, 55),
        edge=(84, 90, 100),
        text=(238, 238, 238),
        dim=(164, 170, 178),
        warn=(240, 228, 66),
        answers={
            "left": (86, 180, 233),
            "right": (230, 159, 0),
            "equal": (0, 178, 130),
            "skip": (204, 121, 167),
        },
    ),
    "light": Theme(
        back=(247, 247, 244),
        panel=(228, 229, 226),
        edge=(168, 170, 168),
        text=(28, 30, 34),
        dim=(92, 96, 102),
        warn=(150, 40, 0),
        answers={
            "left": (0, 114, 178),
            "right": (190, 80, 0),
            "equal": (0, 120, 88),
            "skip": (165, 75, 125),
        },
    ),
}

WORDS = {"left": "left", "right": "right", "equal": "both equal", "skip": "can't tell"}
ARROWS = {"left": "←", "right": "→", "equal": "↓", "skip": "↑"}

QUESTION_LINES = 3
"""In which the question has to find room above the clips."""

SMALLEST_QUESTION = 11
"""Height of its letters at least, pixels."""

ANSWER_BUTTONS = (
    ("left", "←  Left is better"),
    ("equal", "↓  Both equal"),
    ("skip", "↑  Can't tell"),
    ("right", "Right is better  →"),
)


@dataclass
class Scene:
    """What to paint."""

    question: str
    status: str
    left: np.ndarray | None = None
    """The frame on the left, `(height, width, 3)` uint8; None while there is no pair."""
    right: np.ndarray | None = None
    played: float = 0.0
    """Share of the loop that is over."""
    mark: str | None = None
    """The answer that is given, or stands."""
    lit: str | None = None
    """The answer to the pair before, which its button still shows for a moment."""
    notice: Notice | None = None
    """In place of a pair."""
    banner: str | None = None
    """What went wrong."""
    tools: list[tuple[str, str]] = field(default_factory=list)
    """Actions and texts of the small buttons."""
    whole_question: bool = False
    """Whether a question that had to be cut is shown in full, over the clips."""
    help: list[tuple[str, str]] | None = None
    """Keys and their meaning, over everything else."""


class Screen:
    """Paints scenes on a window's surface.

    Args:
        theme: A name in `THEMES`.
    """

    def __init__(self, theme: str) -> None:
        self.theme = theme
        self._type = Typeface()
        self.places: list[tuple[pygame.Rect, str]] = []
        """What was painted last and takes clicks: where, and the action."""
        self.cut_question: pygame.Rect | None = None
        """Where the question was painted last, if there was no room for all of it."""

    def draw(self, surface: pygame.Surface, scene: Scene) -> None:
        """Paint `scene`; set `places` and `cut_question`."""
        theme = THEMES[self.theme]
        width, height = surface.get_size()
        unit = min(max(min(width / 1280, height / 800), 0.5), 3.0)
        gap = round(12 * unit)
        text = max(13, round(20 * unit))
        small = max(12, round(16 * unit))
        self.places = []
        surface.fill(theme.back)

        bottom = height - gap // 2
        bottom = self._line(surface, scene.status, small, theme.dim, bottom, gap)
        bottom = self._tools(surface, scene.tools, small, bottom, gap)
        bottom = self._answers(surface, scene, text, bottom, gap)
        top = self._question(surface, scene.question, text, gap)
        room = pygame.Rect(gap, top, width - 2 * gap, bottom - top)
        if scene.left is not None and scene.right is not None:
            self._pair(surface, scene, room, gap)
        elif scene.notice:
            self._notice(surface, scene.notice, room, text, small)
        if scene.banner:
            self._banner(surface, scene.banner, room, text)
        if scene.whole_question and self.cut_question:
            self._whole_question(surface, scene.question, room, text, gap)
        if scene.help:
            self._help(surface, scene.help, text, gap)

    def _line(
        self, surface: pygame.Surface, text: str, size: int, colour: Colour, bottom: int, gap: int
    ) -> int:
        """One line of text that ends at `bottom`; gives where the room above it ends."""
        line = self._type.line(
            self._type.fit(text, size, surface.get_width() - 2 * gap), size, colour
        )
        surface.blit(line, line.get_rect(midbottom=(surface.get_width() // 2, bottom)))
        return bottom - line.get_height() - gap // 2

    def _tools(
        self,
        surface: pygame.Surface,
        tools: list[tuple[str, str]],
        size: int,
        bottom: int,
        gap: int,
    ) -> int:
        theme = THEMES[self.theme]
        width = surface.get_width()
        pad = max(3, gap // 2)
        lines = [self._type.line(words, size, theme.dim) for _, words in tools]
        while lines and sum(line.get_width() + 3 * pad for line in lines) > width and size > 9:
            size -= 1
            lines = [self._type.line(words, size, theme.dim) for _, words in tools]
        total = sum(line.get_width() + 2 * pad for line in lines) + pad * (len(lines) - 1)
        height = max((line.get_height() for line in lines), default=0) + pad
        x = (width - total) // 2
        for (action, _), line in zip(tools, lines, strict=True):
            box = pygame.Rect(x, bottom - height, line.get_width() + 2 * pad, height)
            pygame.draw.rect(surface, theme.edge, box, 1, border_radius=pad)
            surface.blit(line, line.get_rect(center=box.center))
            self.places.append((box, action))
            x = box.right + pad
        return bottom - height - gap // 2

    def _answers(
        self, surface: pygame.Surface, scene: Scene, size: int, bottom: int, gap: int
    ) -> int:
        theme = THEMES[self.theme]
        width = (surface.get_width() - 5 * gap) // 4
        height = round(size * 2.1)
        for i, (answer, words) in enumerate(ANSWER_BUTTONS):
            box = pygame.Rect(gap + i * (width + gap), bottom - height, width, height)
            colour = theme.answers[answer] if scene.left is not None else theme.edge
            chosen = answer in (scene.mark, scene.lit)
            pygame.draw.rect(surface, colour if chosen else theme.panel, box, border_radius=gap)
            pygame.draw.rect(surface, colour, box, max(2, gap // 6), border_radius=gap)
            fitting = next(
                (s for s in range(size, 9, -1) if self._type.width(words, s) < width - gap), 10
            )
            ink = theme.text if scene.left is not None else theme.dim
            line = self._type.line(words, fitting, theme.back if chosen else ink)
            surface.blit(line, line.get_rect(center=box.center))
            self.places.append((box, answer))
        return bottom - height - gap // 2

    def _question(self, surface: pygame.Surface, question: str, size: int, gap: int) -> int:
        """The question in at most three lines; gives where the room below it begins."""
        width = surface.get_width() - 4 * gap
        lines = self._type.wrap(question, size, width)
        while len(lines) > QUESTION_LINES and size > SMALLEST_QUESTION:
            size -= 1
            lines = self._type.wrap(question, size, width)
        cut = len(lines) > QUESTION_LINES
        if cut:
            rest = " ".join(lines[QUESTION_LINES - 1 :])
            lines = [*lines[: QUESTION_LINES - 1], self._type.fit(rest, size, width)]
        y = gap
        for words in lines:
            line = self._type.line(words, size, THEMES[self.theme].text)
            surface.blit(line, line.get_rect(midtop=(surface.get_width() // 2, y)))
            y += line.get_height()
        self.cut_question = pygame.Rect(0, 0, surface.get_width(), y) if cut else None
        return y + gap

    def _whole_question(
        self, surface: pygame.Surface, question: str, room: pygame.Rect, size: int, gap: int
    ) -> None:
        """All of the question on a panel, in letters as large as there is room for."""
        theme = THEMES[self.theme]
        width = room.width - 2 * gap
        lines = self._type.wrap(question, size, width)
        while len(lines) * self._type.height(size) > room.height - 2 * gap and size > 6:
            size -= 1
            lines = self._type.wrap(question, size, width)
        height = self._type.height(size)
        lines = lines[: (room.height - 2 * gap) // height]
        box = pygame.Rect(room.x, room.y, room.width, height * len(lines) + 2 * gap)
        pygame.draw.rect(surface, theme.panel, box, border_radius=gap)
        pygame.draw.rect(surface, theme.edge, box, 2, border_radius=gap)
        for i, words in enumerate(lines):
            line = self._type.line(words, size, theme.text)
            surface.blit(line, (box.x + gap, box.y + gap + i * height))

    def _pair(self, surface: pygame.Surface, scene: Scene, room: pygame.Rect, gap: int) -> None:
        assert scene.left is not None
        assert scene.right is not None
        theme = THEMES[self.theme]
        rows, columns = scene.left.shape[:2]
        bar = max(4, gap // 2)
        scale = min((room.width - gap) / 2 / columns, (room.height - bar - gap) / rows)
        size = (max(1, int(columns * scale)), max(1, int(rows * scale)))
        middle = room.centerx
        top = room.y + (room.height - size[1] - bar - gap) // 2
        for side, frame, x in (
            ("left", scene.left, middle - gap // 2 - size[0]),
            ("right", scene.right, middle + gap // 2),
        ):
            box = pygame.Rect((x, top), size)
            picture = pygame.image.frombuffer(frame.data, frame.shape[1::-1], "RGB")
            surface.blit(pygame.transform.smoothscale(picture.convert(surface), size), box)
            self.places.append((box, side))
            chosen = scene.mark in (side, "equal")
            if scene.mark and not chosen:
                veil = pygame.Surface(size)
                veil.fill(theme.back)
                veil.set_alpha(150)
                surface.blit(veil, box)
            colour = theme.answers[str(scene.mark)] if chosen else theme.edge
            pygame.draw.rect(surface, colour, box, max(4, gap // 2) if chosen else 1)
        track = pygame.Rect(middle - gap // 2 - size[0], top + size[1] + gap // 2, 0, bar // 2)
        track.width = 2 * size[0] + gap
        pygame.draw.rect(surface, theme.panel, track, border_radius=bar)
        track.width = round(track.width * scene.played)
        pygame.draw.rect(surface, theme.dim, track, border_radius=bar)
        if scene.mark:
            self._badge(surface, scene.mark, (middle, top + size[1] // 2), gap)

    def _badge(self, surface: pygame.Surface, mark: str, centre: tuple[int, int], gap: int) -> None:
        """The answer as a sign between the clips: never by colour alone."""
        theme = THEMES[self.theme]
        line = self._type.line(f"{ARROWS[mark]} {WORDS[mark]}", gap * 2, theme.back)
        box = line.get_rect(center=centre).inflate(2 * gap, gap)
        pygame.draw.rect(surface, theme.answers[mark], box, border_radius=gap)
        surface.blit(line, line.get_rect(center=centre))

    def _notice(
        self, surface: pygame.Surface, notice: Notice, room: pygame.Rect, text: int, small: int
    ) -> None:
        theme = THEMES[self.theme]
        y = room.centery - 2 * text
        line = self._type.line(notice.headline, round(text * 1.4), theme.text)
        surface.blit(line, line.get_rect(midtop=(room.centerx, y)))
        y += line.get_height() + text // 2
        for words in self._type.wrap(notice.detail, small, room.width):
            line = self._type.line(words, small, theme.dim)
            surface.blit(line, line.get_rect(midtop=(room.centerx, y)))
            y += line.get_height()
        if notice.done is not None:
            track = pygame.Rect(0, y + text // 2, room.width // 2, max(6, text // 3))
            track.centerx = room.centerx
            pygame.draw.rect(surface, theme.panel, track, border_radius=track.height)
            track.width = round(track.width * min(1.0, max(0.0, notice.done)))
            pygame.draw.rect(surface, theme.answers["left"], track, border_radius=track.height)

    def _banner(self, surface: pygame.Surface, words: str, room: pygame.Rect, size: int) -> None:
        theme = THEMES[self.theme]
        lines = [
            self._type.line(w, size, theme.back)
            for w in self._type.wrap(words, size, round(room.width * 0.8))
        ]
        height = lines[0].get_height()
        box = pygame.Rect(0, 0, max(line.get_width() for line in lines), height * len(lines))
        box.center = room.center
        pygame.draw.rect(surface, theme.warn, box.inflate(size * 2, size), border_radius=size // 2)
        for i, line in enumerate(lines):
            surface.blit(line, line.get_rect(midtop=(box.centerx, box.y + i * height)))

    def _help(
        self, surface: pygame.Surface, rows: list[tuple[str, str]], size: int, gap: int
    ) -> None:
        theme = THEMES[self.theme]
        while len(rows) * size * 1.5 > surface.get_height() - 4 * gap and size > 9:
            size -= 1
        left = max(self._type.width(keys, size) for keys, _ in rows)
        right = max(self._type.width(words, size) for _, words in rows)
        step = round(size * 1.5)
        box = pygame.Rect(0, 0, left + right + 6 * gap, step * len(rows) + 2 * gap)
        box.center = surface.get_rect().center
        pygame.draw.rect(surface, theme.panel, box, border_radius=gap)
        pygame.draw.rect(surface, theme.edge, box, 2, border_radius=gap)
        for i, (keys, words) in enumerate(rows):
            y = box.y + gap + i * step
            surface.blit(self._type.line(keys, size, theme.answers["left"]), (box.x + 2 * gap, y))
            surface.blit(self._type.line(words, size, theme.text), (box.x + 4 * gap + left, y))
