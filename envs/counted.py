"""MuJoCo models that remember what was counted, and what touches their floor."""

import warnings

import mujoco


def model_with_counters(path: str, counters: int, width: int, height: int) -> mujoco.MjModel:
    """A model with room for counters in its data: whatever saves MuJoCo's state saves them.

    Args:
        path: The model's XML file.
        counters: How many numbers `data.userdata` holds; a reset of the data sets them to 0.
        width, height: Of the largest picture that will be drawn, pixels.
    """
    spec = mujoco.MjSpec.from_file(path)
    spec.nuserdata = counters
    with warnings.catch_warnings():  # the half-cheetah's own file is old-fashioned
        warnings.filterwarnings("ignore", "compiler attribute 'settotalmass'", UserWarning)
        model = spec.compile()
    model.vis.global_.offwidth = width
    model.vis.global_.offheight = height
    return model


def geoms_on_floor(data: mujoco.MjData, floor: int) -> set[int]:
    """Ids of the geoms that touch the geom `floor` now."""
    pairs = data.contact.geom
    return set(pairs[(pairs == floor).any(axis=1)].ravel().tolist()) - {floor}
