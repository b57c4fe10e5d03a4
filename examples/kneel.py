def score(clip):
    """Walker on its knees: torso upright and 0.7 m high, knees at right angles; (T,)."""
    height, tilt = clip.observations[:, 0], clip.observations[:, 1]
    stretched = abs(clip.observations[:, [3, 6]] + 1.57).mean(axis=1)
    return -abs(height - 0.7) - 0.3 * abs(tilt) - 0.2 * stretched
