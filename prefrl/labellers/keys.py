"""The keys of the window, and what its help says of them."""

import pygame

KEYS = {
    pygame.K_LEFT: "left",
    pygame.K_RIGHT: "right",
    pygame.K_DOWN: "equal",
    pygame.K_UP: "skip",
    pygame.K_BACKSPACE: "back",
    pygame.K_u: "back",
    pygame.K_r: "restart",
    pygame.K_SPACE: "pause",
    pygame.K_COMMA: "frame back",
    pygame.K_PERIOD: "frame on",
    pygame.K_LEFTBRACKET: "slower",
    pygame.K_RIGHTBRACKET: "faster",
    pygame.K_f: "full screen",
    pygame.K_F11: "full screen",
    pygame.K_t: "theme",
    pygame.K_h: "help",
    pygame.K_F1: "help",
    pygame.K_ESCAPE: "close",
}

REVIEW_KEYS = KEYS | {
    pygame.K_RETURN: "forward",
    pygame.K_n: "forward",
    pygame.K_PAGEDOWN: "forward",
    pygame.K_PAGEUP: "back",
}

SHORTCUTS = pygame.KMOD_CTRL | pygame.KMOD_ALT | pygame.KMOD_GUI
"""Held down, these make a key the desktop's and not an answer."""

HELP = [
    ("←  →", "the left, or the right clip is better"),
    ("↓", "both are equally good"),
    ("↑", "can't tell: it counts, but nothing is learned from it"),
    ("Backspace  U", "take the last answer back, as often as you like"),
    ("R", "play from the start"),
    ("Space", "stop and go"),
    (",  .", "one frame back, one frame on"),
    ("[  ]", "slower, faster; at 1 x a second is a second"),
    ("F", "full screen"),
    ("T", "light or dark"),
    ("H", "this help"),
    ("Esc", "close the window; that is no answer"),
]

REVIEW_HELP = [
    ("←  →  ↓  ↑", "another answer, in place of the marked one; both stay in the store"),
    ("Enter  N", "the next pair"),
    ("Backspace  U", "the pair before"),
    *HELP[4:-1],
    ("Esc", "close the window"),
]
