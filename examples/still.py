def score(clip):
    """Hopper standing still: upright counts, moving costs; the score of each step, (T,)."""
    height = clip.observations[:, 0]
    return height - abs(clip.infos["x_velocity"])
