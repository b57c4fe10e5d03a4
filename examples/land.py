import numpy as np


def score(clip):
    """Hopper: a backward somersault in the air that ends on the foot; (T,)."""
    info = clip.infos
    gained = {k: np.diff(info[k], prepend=info[k][0]) for k in ("rotations", "landings")}
    clumsy = info["foot_contact"] * (1 - clip.observations[:, 2]) + 2 * info["body_contact"]
    return 60 * gained["rotations"] + 20 * gained["landings"] - clumsy
