"""The window: two clips side by side, a key for each answer.

It reads keys, keeps the clips playing and paints what a `Session` and a `Player` have. A key is
answered within one frame of the display: first the sign on the screen, then the commit, then the
next pair, which the player has had in memory since before.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pygame

from prefrl.labellers.keys import HELP, KEYS, REVIEW_HELP, REVIEW_KEYS, SHORTCUTS
from prefrl.labellers.notice import notice
from prefrl.labellers.playback import TEMPI, Playback
from prefrl.labellers.player import Pair, Player
from prefrl.labellers.screen import Scene, Screen
from prefrl.labellers.session import Session
from prefrl.labels.answers import ANSWERS
from prefrl.labels.desk import Claim

SMALLEST = (640, 400)
"""Window size, pixels."""

DEBOUNCE = 0.15
"""Seconds of a new pair in which an answer does not count: the key was meant for the last one."""

FEEDBACK = 0.03
"""Seconds that an answer stays marked before the next pair takes its place."""

AFTERGLOW = 0.4
"""Seconds that its button shows the answer after that."""


@dataclass(frozen=True)
class Speed:
    """Latencies of a session, from a key to the screen, s."""

    feedback: list[float]
    """Until the answer was marked on the screen."""
    next_pair: list[float]
    """Until the next pair was on the screen, where one was waiting."""


class Window:
    """One window, from opening to closing.

    Args:
        session: What the person does.
        player: Has the clips.
        title: Of the window.
        question: What the person is asked about each pair.
        run: The run's folder, as to be typed.
        theme: `dark` or `light`.
        size: Of the window, pixels; a good part of the desktop when None.
        clock: Gives the time, s.
    """

    def __init__(
        self,
        session: Session,
        player: Player,
        *,
        title: str,
        question: str,
        run: str,
        theme: str = "dark",
        size: tuple[int, int] | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._session = session
        self._player = player
        self._question = question
        self._run = run
        self._clock = clock
        self._reviews = session.reviews
        self._keys = REVIEW_KEYS if self._reviews else KEYS
        self._window = pygame.Window(title, size or _good_size(), resizable=True)
        self._window.minimum_size = SMALLEST
        self._screen = Screen(theme)
        self._opened = time.time()
        self._shown: Claim | None = None
        self._pair: Pair | None = None
        self._playback: Playback | None = None
        self._since = 0.0
        self._tempo = TEMPI.index(1.0)
        self._help = False
        self._whole_screen = False
        self._whole_question = False
        self._banner: str | None = None
        self._answered: tuple[str, float] | None = None
        self._pressed: float | None = None
        self._lit: tuple[str, float] | None = None
        self._painted: tuple = ()
        self.open = True
        self.speed = Speed([], [])

    def loop(self) -> None:
        """Serve the person until the window is closed or nothing can be drawn."""
        while self.open and not self._player.failure:
            self.tick(pygame.event.wait(self._patience()))
        self._window.destroy()

    def tick(self, first: pygame.event.Event | None = None) -> None:
        """Take in events and paint what has changed."""
        for event in ([first] if first else []) + pygame.event.get():
            self._take_event(event)
        self._turn_to_current()
        self._paint()

    def _patience(self) -> int:
        """Milliseconds until something may have to be painted without an event."""
        return 8 if self._playback and not self._playback.stopped else 50

    def _take_event(self, event: pygame.event.Event) -> None:
        if event.type in (pygame.QUIT, pygame.WINDOWCLOSE):
            self.open = False
        elif event.type == pygame.KEYDOWN and event.key in self._keys:
            if not getattr(event, "mod", 0) & SHORTCUTS:
                self._act(self._keys[event.key])
        elif event.type == pygame.MOUSEBUTTONDOWN and event.button == 1:
            for place, action in self._screen.places:
                if place.collidepoint(event.pos):
                    self._act(action)
                    break
        elif event.type == pygame.MOUSEMOTION:
            cut = self._screen.cut_question
            self._point_at_question(cut is not None and cut.collidepoint(event.pos))
        elif event.type == pygame.WINDOWLEAVE:
            self._point_at_question(False)
        elif event.type in (pygame.WINDOWRESIZED, pygame.WINDOWEXPOSED):
            self._painted = ()

    def _point_at_question(self, pointing: bool) -> None:
        if pointing != self._whole_question:
            self._whole_question = pointing
            self._painted = ()

    def _act(self, action: str) -> None:
        if action == "close" and not self._help:
            self.open = False
        elif action in ("help", "close") or self._help:
            self._help = not self._help  # any key ends the help
        elif action == "theme":
            self._screen.theme = "light" if self._screen.theme == "dark" else "dark"
        elif action == "full screen":
            self._toggle_full_screen()
        elif action in ANSWERS:
            self._answer(action)
        elif action == "back":
            self._banner = self._session.back()
            self._answered = self._pressed = None
        elif action == "forward":
            self._session.forward()
        else:
            self._play(action)
        self._painted = ()

    def _answer(self, answer: str) -> None:
        """Show the answer, then store it; the next pair comes with the next tick."""
        claim = self._shown
        if claim is None or claim != self._session.current:
            return  # the next pair is not on the screen yet
        aside = answer == "skip" and self._fault() and not self._reviews
        if self._pair is None and not aside:
            return
        pressed = self._clock()
        if pressed - self._since < DEBOUNCE or self._answered:
            return
        self._banner = None
        self._answered = (answer, pressed)
        self._paint()
        self.speed.feedback.append(self._clock() - pressed)
        refused = self._session.answer(claim, answer, pressed - self._since)
        if refused or self._reviews:
            self._banner = refused
            self._answered = None

    def _play(self, action: str) -> None:
        now = self._clock()
        if action in ("slower", "faster"):
            self._tempo += 1 if action == "faster" else -1
            self._tempo = min(max(self._tempo, 0), len(TEMPI) - 1)
        if self._playback is None:
            return
        if action == "restart":
            self._playback.restart(now)
        elif action == "pause":
            self._playback.pause(now)
        elif action in ("frame back", "frame on"):
            self._playback.turn(1 if action == "frame on" else -1, now)
        else:
            self._playback.set_tempo(TEMPI[self._tempo], now)

    def _toggle_full_screen(self) -> None:
        if self._whole_screen:
            self._window.set_windowed()
        else:
            self._window.set_fullscreen(desktop=True)
        self._whole_screen = not self._whole_screen

    def _turn_to_current(self) -> None:
        """Put the session's current pair on, once it is drawn and the last answer was seen."""
        if self._answered and self._clock() - self._answered[1] < FEEDBACK:
            return
        current = self._session.current
        pair = self._player.pair(current) if current else None
        if current == self._shown and (pair is None) == (self._pair is None):
            self._answered = None
            return
        if self._answered:
            self._lit, self._pressed, self._answered = self._answered, self._answered[1], None
        self._shown, self._pair = current, pair
        self._painted = ()
        if pair is None:
            self._playback = None
            self._since = self._clock()
            if current is None:
                self._pressed = None  # there is nothing to be quick with
            return
        self._playback = Playback(pair, TEMPI[self._tempo], self._clock())
        self._paint()
        self._since = self._clock()
        if self._pressed is not None:
            self.speed.next_pair.append(self._since - self._pressed)
            self._pressed = None
        self._session.show()

    def _fault(self) -> str | None:
        current = self._session.current
        return self._player.fault(current) if current else None

    def _paint(self) -> None:
        now = self._clock()
        frame = self._playback.frame(now) if self._playback else 0
        if self._lit and now - self._lit[1] > FEEDBACK + AFTERGLOW:
            self._lit = None
        second = int(4 * now) if self._pair is None else None  # the bar moves, the pair does not
        state = (frame, self._player.progress.seen, self._answered, self._lit, second)
        if state == self._painted:
            return
        self._painted = state
        self._screen.draw(self._window.get_surface(), self._scene(frame))
        self._window.flip()

    def _scene(self, frame: int) -> Scene:
        scene = Scene(
            question=self._question,
            status=self._status(),
            tools=self._tools(),
            banner=self._banner,
            whole_question=self._whole_question,
            help=(REVIEW_HELP if self._reviews else HELP) if self._help else None,
            lit=self._lit[0] if self._lit else None,
        )
        if self._pair:
            scene.left, scene.right = (
                np.ascontiguousarray(clip[min(frame, len(clip) - 1)])
                for clip in (self._pair.left, self._pair.right)
            )
            scene.played = (frame + 1) / len(self._pair.left)
            scene.mark = self._answered[0] if self._answered else self._session.mark
        else:
            scene.notice = notice(
                self._player.progress,
                run=self._run,
                opened=self._opened,
                drawing=self._shown is not None,
            )
            if fault := self._fault():
                on = "N goes on" if self._reviews else "↑ puts it aside"
                scene.banner = f"This pair cannot be drawn: {fault}. {on}."
        return scene

    def _tools(self) -> list[tuple[str, str]]:
        pace = self._pair.pace * TEMPI[self._tempo] if self._pair else TEMPI[self._tempo]
        stopped = self._playback is not None and self._playback.stopped
        return [
            ("back", "U  before" if self._reviews else "U  undo"),
            *([("forward", "N  next")] if self._reviews else []),
            ("restart", "R  replay"),
            ("pause", "Space  go on" if stopped else "Space  pause"),
            ("frame back", ","),
            ("frame on", ".  frame"),
            ("slower", "["),
            ("faster", f"]  speed {pace:.2g} x"),
            ("full screen", "F  full screen"),
            ("help", "H  help"),
        ]

    def _status(self) -> str:
        line = self._session.status(self._player.progress)
        if self._pair and self._playback and self._playback.stopped:
            frame = self._playback.frame(self._clock())
            line = f"paused at frame {frame + 1} of {len(self._pair.left)}   ·   {line}"
        return line


def _good_size() -> tuple[int, int]:
    """Three quarters of the desktop, in the proportion of two clips beside each other."""
    width, height = pygame.display.get_desktop_sizes()[0]
    width = min(width * 3 // 4, height * 3 // 2)
    return max(SMALLEST[0], width), max(SMALLEST[1], width * 5 // 9)
