"""Labellers: the scripted oracle, and people at a window.

A person's answer goes from `keys` and `window` through a `session` to the desk at the store. The
pairs come the other way: `reel` draws clips in a process of its own, `player` has them in memory
ahead of time, `playback` says which frame is on, `screen` (in letters of `typeface`) paints it, or
a `notice` in its place. `person` is the trainer's side of all that.
"""
