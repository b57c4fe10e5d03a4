"""What is changed in a run before it goes on: refused, or another run from there, or neither."""

import shlex
from collections.abc import Mapping
from typing import Any

import yaml

from prefrl.config import Config
from prefrl.configfile import config_to_text, config_to_tree
from prefrl.errors import UserError
from prefrl.registry import module_file
from prefrl.run import Run
from prefrl.usercode import fingerprints, own_files

FIXED = (
    "agent.",
    "clips.",
    "env.backend",
    "env.copies",
    "env.id",
    "reward.hidden",
    "reward.learning_rate",
    "reward.linear_path",
    "reward.members",
    "reward.squares",
    "run.true_reward",
)
"""How keys of config.yaml begin that what a checkpoint holds was made by."""

FIXED_BY_LABELS = ("clips.length", "env.id")
"""How keys begin that clips in a label store were made by."""

INDIFFERENT = {
    "labels.probes",
    "labels.question",
    "labels.source",
    "labels.wait",
    "run.checkpoint_every",
    "run.evaluation_episodes",
}
"""Keys that decide neither what is asked nor what is learned once a run has begun."""

BY_CONTENT = {"labels.oracle", "query.rule"}
"""Keys that may name a function in a file of the user's, which may lie elsewhere now."""


def what_it_is(config: Config) -> dict[str, Any]:
    """What a checkpoint notes, for `is_another_run`."""
    return {"config": config_to_text(config), "files": fingerprints(own_files(config))}


def is_another_run(run: Run, noted: Mapping[str, Any], *, anew: bool) -> bool:
    """Whether the run goes on otherwise than it would have.

    Args:
        run: The run.
        noted: What it was, `config` and `files`: from a checkpoint, or its record from its start.
        anew: Whether it begins anew, with the labels that it has.

    Raises:
        UserError: Something is changed that the checkpoint, or the labels, were made by.
    """
    tree = yaml.safe_load(noted.get("config") or "")
    then, now = (
        {f"{section}.{key}": v for section, values in part.items() for key, v in values.items()}
        for part in (tree if isinstance(tree, dict) else {}, config_to_tree(run.config))
    )
    unused = _unused(run.config) if then.get("run.true_reward") == now["run.true_reward"] else ()
    changed = {
        key
        for key, value in now.items()
        if value != then.get(key, value) and not key.startswith(unused)
    }
    for key in sorted(changed):
        if key.startswith(FIXED_BY_LABELS if anew else FIXED):
            raise UserError(
                f"{key} was {then[key]} in '{run.path}' and is {now[key]} now, which cannot be "
                f"changed on the way: undo that in its config.yaml; {_way_out(run, key)}"
            )
    moved = {
        key for key in BY_CONTENT & changed if _function(then[key]) == _function(now[key]) != ""
    }
    files = fingerprints(file for file in _deciding(run.config) if file).values()
    known = set(noted.get("files", {}).values())
    return bool(changed - moved - INDIFFERENT) or bool(known and set(files) - known)


def _unused(config: Config) -> tuple[str, ...]:
    """How keys begin that a run of this kind has no use for."""
    if config.run.true_reward:
        return "clips.", "labels.", "query.", "reward."
    if config.labels.labeller == "oracle":
        return ()
    unused = ("labels.oracle", "labels.teacher")  # an oracle's score evaluates it all the same
    return (*unused, "query.") if config.labels.labeller == "none" else unused


def _deciding(config: Config) -> list[str]:
    """Files that decide how a run goes on."""
    own = (("query.rule", config.query.rule), ("labels.oracle", config.labels.oracle))
    unused = _unused(config)
    used = [value.rpartition(":")[0] for key, value in own if not key.startswith(unused)]
    return [module_file(config.env.id), *used]


def _function(spec: str) -> str:
    """The function that `FILE.py:FUNC` names; empty if nothing of the kind is named."""
    file, _, name = spec.rpartition(":")
    return name if file else ""


def _way_out(run: Run, key: str) -> str:
    preset, labels = (shlex.quote(str(p)) for p in (run.path / "config.yaml", run.label_file))
    words = f"`prefrl train {run.config.env.id} --preset {preset}` trains anew"
    if key in (*FIXED_BY_LABELS, "run.true_reward") or not run.label_file.exists():
        return words
    with run.open_labels(read_only=True) as store:
        answered = store.count_answered()
    return f"{words}, and --labels-from {labels} takes the answers along" if answered else words
