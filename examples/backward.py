def score(clip):
    """Half-cheetah running backward: the score of each step, (T,)."""
    return -clip.infos["x_velocity"]
