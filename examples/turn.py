def score(clip):
    """Ant turning on the spot: rad/s to the left, less its speed in m/s; (T,)."""
    turning = clip.observations[:, 18]
    return turning - abs(clip.infos["x_velocity"]) - abs(clip.infos["y_velocity"])
