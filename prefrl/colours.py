"""Okabe and Ito's colours, which colour-blind people tell apart."""

BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#777777"

COLOURS = [BLUE, ORANGE, GREEN, "#CC79A7", "#E69F00", "#56B4E9", "#000000", GREY]
"""All but their yellow, which is too light for a line on white."""
