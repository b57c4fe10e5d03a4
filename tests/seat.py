"""A window on SDL's dummy display, and whoever sits at it: real events, frames from memory."""

import threading

import numpy as np
import pygame

from prefrl.labellers.player import Pair, Progress
from prefrl.labellers.session import Labelling, Review
from prefrl.labellers.window import DEBOUNCE, FEEDBACK, Window
from prefrl.labels.desk import Claim, Desk

FRAMES = np.full((20, 24, 32, 3), 90, np.uint8)


class StillPlayer:
    """Has the frames of every pair at once, and all pairs in hand."""

    def __init__(self, run, take=True):
        self.lock = threading.Lock()
        self.session = "here"
        self.failure = None
        self.progress = Progress(budget=40, steps=30_000)
        self.missing: set[int] = set()
        self.faults: dict[int, str] = {}
        self.claims: list[Claim] = []
        self.store = run.labels
        if take:
            desk = Desk(
                self.store,
                labeller="ada",
                probes=0,
                rng=np.random.default_rng(0),
                session=self.session,
            )
            self.claims = desk.take(100)

    def pair(self, claim):
        return None if claim.query.id in self.missing else Pair(FRAMES, FRAMES, 10.0, 0.5)

    def fault(self, claim):
        return self.faults.get(claim.query.id)


class Clock:
    """Stands still until it is moved."""

    now = 100.0

    def __call__(self):
        return self.now


class Desktop:
    """A window and whoever sits at it."""

    def __init__(self, run, review=False, size=(800, 500), **player):
        self.run = run
        self.player = StillPlayer(run, take=not review)
        self.session = (Review if review else Labelling)(run, self.player, "ada")
        self.clock = Clock()
        self.window = Window(
            self.session,
            self.player,
            title="test",
            question="Which one is better?",
            run="runs/h",
            size=size,
            clock=self.clock,
        )
        self.tick(DEBOUNCE + 0.1)

    def tick(self, seconds=0.0):
        self.window.tick()
        self.clock.now += seconds
        self.window.tick()

    def press(self, key, wait=DEBOUNCE + 0.1):
        pygame.event.post(pygame.event.Event(pygame.KEYDOWN, key=key))
        self.tick(FEEDBACK + 0.01)
        self.tick(wait)

    def click(self, action):
        place = next(place for place, name in self.window._screen.places if name == action)
        event = pygame.event.Event(pygame.MOUSEBUTTONDOWN, button=1, pos=place.center)
        pygame.event.post(event)
        self.tick(FEEDBACK + 0.01)
        self.tick(DEBOUNCE + 0.1)

    def labels(self):
        return {label.query.id: label for label in self.player.store.labels()}

    def close(self):
        self.session.close()
        self.player.store.close()
        self.window._window.destroy()
