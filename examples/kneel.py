def score(clip):
    """Walker on its knees: the torso upright, 0.65 m above the ground, and at rest; (T,)."""
    height, tilt = clip.observations[:, 0], clip.observations[:, 1]
    return -abs(height - 0.65) - abs(tilt) - 0.2 * abs(clip.infos["x_velocity"])
