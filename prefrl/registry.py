"""Environments by their ids: registered, imported from modules of the user's own, found by others.

MuJoCo is made ready to draw without a display before anything imports it.
"""

import importlib
import importlib.util
import logging
import os
import sys
from ctypes.util import find_library
from pathlib import Path

import gymnasium as gym

from prefrl.errors import UserError, nearest, sentence

log = logging.getLogger("prefrl")

OWN = "prefrl_envs"
"""Name under which prefrl's package `envs` is imported where that one is taken."""


def find_spec(env_id: str) -> gym.envs.registration.EnvSpec:
    """The registered environment of that id; imports its module if the id names one.

    Raises:
        UserError: There is none, or it has no time limit.
    """
    prepare_mujoco()
    module, _, name = env_id.rpartition(":")
    if module:
        _import_module(module, env_id)
    _register_own()
    try:
        spec = gym.spec(name)
    except (gym.error.Error, ImportError):
        known = [key for key, spec in gym.registry.items() if spec.max_episode_steps]
        own = "" if module else f" (one of your own is my_module:{name})"
        raise UserError(f"unknown environment '{env_id}': {nearest(name, known)}{own}") from None
    if spec.max_episode_steps is None:
        others = [other for other in gym.registry.values() if other.max_episode_steps]
        same = [o for o in others if (o.namespace, o.name) == (spec.namespace, spec.name)]
        newest = max(same, key=lambda other: other.version or 0, default=spec)
        if (newest.version or 0) > (spec.version or 0):
            raise UserError(f"{env_id} is of an old version: take {newest.id}")
        raise UserError(
            f"{env_id} has no time limit: register it with max_episode_steps, because clips "
            f"and returns are compared over episodes of one length"
        )
    return spec


def check_found_by_others(env_id: str) -> None:
    """Whether another process, as the window is one, finds the environment by that id.

    Raises:
        UserError: It was registered in this process alone; says how to name it.
    """
    if ":" in env_id:
        return
    spec = find_spec(env_id)
    made_by = spec.entry_point
    module = made_by if isinstance(made_by, str) else getattr(made_by, "__module__", "")
    if spec.namespace != "prefrl" and not module.startswith("gymnasium."):
        raise UserError(
            f"{env_id} was registered in this process alone, and the window is another: name the "
            f"module that registers it, as in 'my_module:{env_id}'"
        )


def module_file(env_id: str) -> str:
    """The file of the module that an id of `find_spec` names; empty if it names none."""
    module = sys.modules.get(env_id.rpartition(":")[0])
    return getattr(module, "__file__", None) or ""


def _register_own() -> None:
    """Import prefrl's own environments, also where the user has a package `envs` of their own."""
    folder = Path(__file__).parents[1] / "envs"
    found = importlib.util.find_spec("envs")
    if found and found.origin and Path(found.origin).parent == folder:
        importlib.import_module("envs")
    elif OWN not in sys.modules:
        own = importlib.util.spec_from_file_location(OWN, folder / "__init__.py")
        assert own
        assert own.loader
        sys.modules[OWN] = importlib.util.module_from_spec(own)
        own.loader.exec_module(sys.modules[OWN])


def _import_module(module: str, env_id: str) -> None:
    if Path(module).name and (module.endswith(".py") or "/" in module):
        file = Path(module).with_suffix(".py")
        raise UserError(
            f"environment '{env_id}': give the module's name, not its file: in the folder of "
            f"{file.name}, '{file.stem}:{env_id.rpartition(':')[2]}'"
        )
    here = str(Path.cwd())  # as `python -m` would: a user's module lies beside them
    sys.path.insert(0, here)
    try:
        importlib.import_module(module)
    except (Exception, SystemExit) as error:  # the user's own code may fail in any way
        why = sentence(error)
        if isinstance(error, ModuleNotFoundError) and error.name == module:
            why = (
                f"there is none: run this in the folder of {module}.py, or install the package of "
                f"that name"
            )
        raise UserError(f"environment '{env_id}': cannot import '{module}': {why}") from None
    finally:
        sys.path.remove(here)
        if here not in sys.path:
            sys.path.append(here)  # last: for what the module names, and is imported later


def prepare_mujoco() -> None:
    """Import MuJoCo with the renderer chosen that it is to draw with.

    Its warnings go to `logging`; by default they land in a file where one stands.
    """
    choose_renderer()  # which it reads as it is imported
    try:
        import mujoco
    except ImportError:
        return
    mujoco.set_mju_user_warning(lambda message: log.debug("mujoco: %s", message))


def choose_renderer() -> str:
    """MuJoCo's GL backend: as set in MUJOCO_GL, else EGL, which needs no display, if installed."""
    if sys.platform == "linux" and "MUJOCO_GL" not in os.environ and find_library("EGL"):
        os.environ["MUJOCO_GL"] = "egl"
    return os.environ.get("MUJOCO_GL", "glfw")
