"""What a bug report needs: versions, renderer, display, where things are kept."""

import os
from pathlib import Path

from prefrl.errors import UserError
from prefrl.labellers.display import check_pygame
from prefrl.registry import choose_renderer


def info() -> dict[str, str]:
    """Facts about this installation, by name."""
    backend = choose_renderer()
    from prefrl.configfile import PRESETS
    from prefrl.run import source_commit, versions

    facts = versions()
    facts["pygame-ce"] = _pygame()
    facts["commit"] = source_commit() or "not a checkout"
    facts["renderer"] = f"{backend}: {_try_renderer()}"
    facts["display"] = os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY") or "none"
    facts["cores"] = str(os.cpu_count())
    facts["runs"] = str(Path("runs").resolve())
    facts["presets"] = f"{PRESETS} ({', '.join(sorted(p.stem for p in PRESETS.glob('*.yaml')))})"
    return facts


def _try_renderer() -> str:
    """Draw one frame of an empty scene."""
    import mujoco

    model = mujoco.MjModel.from_xml_string("<mujoco><worldbody/></mujoco>")
    try:
        with mujoco.Renderer(model, height=16, width=16) as renderer:
            renderer.update_scene(mujoco.MjData(model))
            renderer.render()
    except Exception as error:  # every GL backend fails in a way of its own
        return f"does not work ({type(error).__name__}: {error})"
    return "works"


def _pygame() -> str:
    import pygame

    try:
        check_pygame()
    except UserError as error:
        return str(error)
    return pygame.version.ver
