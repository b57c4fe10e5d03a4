"""prefrl: an agent learns from answers about pairs of short clips.

::

    import prefrl

    run = prefrl.train("HalfCheetah-v5", labels=200)
    print(run.record["result"]["true_return_mean"])
    prefrl.video(run, "run.mp4")
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from prefrl.agent.reward_env import LearnedReward
    from prefrl.clips.recorder import ClipRecorder
    from prefrl.errors import UserError
    from prefrl.evaluation import evaluate
    from prefrl.filming import video
    from prefrl.labellers.oracle import Oracle
    from prefrl.labelling import label
    from prefrl.labels.store import LabelStore
    from prefrl.loop import PreferenceLoop
    from prefrl.queries.schedule import LabelSchedule
    from prefrl.reporting import report
    from prefrl.reward.ensemble import RewardEnsemble
    from prefrl.run import Run
    from prefrl.trainer import resume, train

__version__ = "0.1.0"

_HOMES = {
    "train": "trainer",
    "resume": "trainer",
    "evaluate": "evaluation",
    "video": "filming",
    "report": "reporting",
    "label": "labelling",
    "Run": "run",
    "UserError": "errors",
    "ClipRecorder": "clips.recorder",
    "RewardEnsemble": "reward.ensemble",
    "LabelStore": "labels.store",
    "LabelSchedule": "queries.schedule",
    "LearnedReward": "agent.reward_env",
    "Oracle": "labellers.oracle",
    "PreferenceLoop": "loop",
}

__all__ = [
    "ClipRecorder",
    "LabelSchedule",
    "LabelStore",
    "LearnedReward",
    "Oracle",
    "PreferenceLoop",
    "RewardEnsemble",
    "Run",
    "UserError",
    "evaluate",
    "label",
    "report",
    "resume",
    "train",
    "video",
]


def __getattr__(name: str) -> Any:
    """Import what is asked for, when it is: `prefrl --help` must not wait for torch."""
    if name in _HOMES:
        return getattr(importlib.import_module(f"prefrl.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'prefrl' has no attribute '{name}'")
