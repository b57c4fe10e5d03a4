"""The run folder: one place that holds everything about one training.

::

    run = Run("runs/HalfCheetah-v5")
    run.config, run.record["result"]
    run.policy.predict(observations)         # actions of the final policy
    run.reward(observations, actions)        # the learned reward
    run.labels                               # the label store
"""

import json
import logging
import os
import platform
import shlex
import shutil
import subprocess
import time
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml

from prefrl.checkpoint import is_whole, list_checkpoints
from prefrl.config import Config
from prefrl.configfile import config_to_text, read_config, save_config
from prefrl.errors import UserError, one_line
from prefrl.files import finite, write_json
from prefrl.registry import find_spec
from prefrl.usercode import fingerprints, own_files, what_decides

if TYPE_CHECKING:
    from prefrl.agent.policy import Policy
    from prefrl.labels.store import LabelStore
    from prefrl.reward.ensemble import RewardEnsemble

log = logging.getLogger("prefrl")

FORMAT = 1
"""Version of the folder's layout, in run.json."""

TRAINING_LOCK = ".training"
"""In a run folder: held by whoever trains the run."""

PACKAGES = ("mujoco", "gymnasium", "torch", "stable-baselines3", "numpy")


class Run:
    """A run folder.

    Args:
        path: The folder.

    Raises:
        UserError: It is not a run folder, or is of a newer version.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.typed = shlex.quote(str(path))
        """Its folder as one types it in a shell."""
        try:
            self.record: dict[str, Any] = json.loads((self.path / "run.json").read_text())
            layout = int(self.record["format"])
            self.record.setdefault("result", None)
        except FileNotFoundError:
            raise UserError(
                f"'{path}' is not a run folder: it has no run.json; `prefrl train` makes one"
            ) from None
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            raise UserError(f"'{path}' is not a run folder: its run.json cannot be read") from None
        if layout > FORMAT:
            raise UserError(
                f"'{path}' is of run format {layout}, this prefrl reads up to {FORMAT}: "
                f"upgrade prefrl"
            )
        try:
            self.config: Config = read_config(self.path / "config.yaml")
        except (OSError, ValueError, AttributeError, TypeError, yaml.YAMLError) as error:
            raise UserError(
                f"'{path}' has a config.yaml that cannot be read: {one_line(error)}"
            ) from None

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r})"

    @classmethod
    def create(cls, path: Path, config: Config) -> "Run":
        """Make a new run folder.

        Raises:
            UserError: It cannot be made, or there is more than an empty folder already.
        """
        try:
            str(path).encode()
        except UnicodeEncodeError:  # TensorBoard, among others, could not open what is in it
            raise UserError(f"the run folder's name {str(path)!a} is not UTF-8") from None
        try:
            path.mkdir(parents=True)
        except FileExistsError:
            if not _is_empty(path):
                there = (path / "run.json").exists()
                hint = f", or `prefrl resume {shlex.quote(str(path))}`" if there else ""
                raise UserError(f"'{path}' exists already: give another --out{hint}") from None
        except OSError as error:
            raise UserError(f"cannot make the run folder '{path}': {error.strerror}") from None
        record = {
            "format": FORMAT,
            "versions": versions(config),
            "commit": source_commit(),
            "files": what_decides(config),
            "seed": config.run.seed,
            "hardware": {
                "machine": platform.machine(),
                "cores": os.cpu_count(),
                "system": f"{platform.system()} {platform.release()}",
            },
            "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            "result": None,
        }
        try:
            save_config(config, path / "config.yaml")
            record["config"] = config_to_text(config)
            write_json(path / "run.json", record)
        except OSError as error:
            shutil.rmtree(path, ignore_errors=True)
            raise UserError(f"cannot write to '{path}': {error.strerror}") from None
        return cls(path)

    def finish(self, result: dict[str, Any]) -> None:
        """Write `result` into run.json; what is not a finite number becomes null."""
        self.record["result"] = finite(result)
        write_json(self.path / "run.json", self.record)

    def note_failure(self, words: str) -> None:
        """Write into run.json why the run stopped; empty words: it goes on."""
        if words != self.record.get("failure", ""):
            self.record["failure"] = words
            write_json(self.path / "run.json", self.record)

    def note_inexact_resume(self) -> None:
        """Write into run.json that the run differs from one that was never stopped."""
        self.record["inexact_resumes"] = self.record.get("inexact_resumes", 0) + 1
        write_json(self.path / "run.json", self.record)

    def warn_of_new_config(self) -> None:
        """Say where config.yaml is no longer what the run began with."""
        file = self.path / "config.yaml"
        if self.record.get("config") in (None, file.read_text()):
            return
        done = self.record["result"] is not None
        more = ", and the run is finished: `prefrl train` with it as --preset trains anew"
        log.warning("'%s' is not as it was when the run began%s", file, more if done else "")

    def check_found(self, *keys: str) -> None:
        """Whether files that the run goes by are where they were when it began.

        Args:
            *keys: `labels.oracle` or `query.rule`.

        Raises:
            UserError: Names the one that is not, and how to say where it is now.
        """
        for key in keys:
            section, _, name = key.partition(".")
            file = getattr(getattr(self.config, section), name).rpartition(":")[0]
            if file and not Path(file).is_file():
                raise UserError(
                    f"'{file}', by which '{self.path}' goes, does not exist: if it was moved, "
                    f"write where to into '{self.path / 'config.yaml'}', as {key}"
                )

    def warn_of_edits(self) -> None:
        """Say which of the user's own files are no longer what the run began with.

        By content: they may lie elsewhere now, and a module of that name elsewhere is another.

        Raises:
            UserError: The environment's module cannot be imported.
        """
        find_spec(self.config.env.id)
        known = self.record.get("files", {}).values()
        for file, now in fingerprints(own_files(self.config)).items():
            if known and now not in known:
                log.warning("'%s' is not as it was when '%s' began", file, self.path)

    @property
    def checkpoints(self) -> Path:
        """Folder of the checkpoints."""
        return self.path / "checkpoints"

    def checkpoint(self) -> Path:
        """The latest whole checkpoint; an unreadable later one is reported and passed over.

        Raises:
            UserError: There is none.
        """
        saved = list_checkpoints(self.checkpoints)
        if not saved and self.record["result"] is None:
            if failure := self.record.get("failure"):
                raise UserError(f"'{self.path}' has no checkpoint, for it failed: {failure}")
            raise UserError(
                f"'{self.path}' has no checkpoint yet: the first comes after "
                f"{self.config.run.checkpoint_every} steps, `prefrl resume {self.typed}` goes on"
            )
        for path in saved:
            if is_whole(path):
                return path
            log.warning("checkpoint %s is damaged or cut short: trying the one before", path)
        raise UserError(f"'{self.path}' has no whole checkpoint, so it cannot go on: train it anew")

    @cached_property
    def _networks(self) -> tuple[Path, "Policy", "RewardEnsemble | None"]:
        """The latest checkpoint, and what that one holds, though a training may go on meanwhile."""
        from prefrl.agent.policy import Policy
        from prefrl.agent.stack import load_ensemble

        checkpoint = self.checkpoint()
        policy = Policy.load(checkpoint)
        if self.config.run.true_reward:
            return checkpoint, policy, None
        return checkpoint, policy, load_ensemble(checkpoint, self.config, policy.model)

    @property
    def loaded(self) -> Path:
        """The checkpoint that `policy` and `ensemble` are of: the latest when first asked for."""
        return self._networks[0]

    @property
    def policy(self) -> "Policy":
        """The trained policy; `predict` takes raw observations."""
        return self._networks[1]

    @property
    def ensemble(self) -> "RewardEnsemble":
        """The reward ensemble that the policy was trained on, as it was then.

        Raises:
            UserError: The run learned from the true reward.
        """
        ensemble = self._networks[2]
        if ensemble is None:
            raise UserError(f"'{self.path}' learned from the true reward: it has no learned one")
        return ensemble

    def forget_networks(self) -> None:
        """Read policy and ensemble anew when they are next asked for."""
        self.__dict__.pop("_networks", None)

    @property
    def label_file(self) -> Path:
        """The file of the label store."""
        return self.path / "labels.db"

    @property
    def training_lock(self) -> Path:
        """Held by whoever trains the run."""
        return self.path / TRAINING_LOCK

    @property
    def window_lock(self) -> Path:
        """Shared by all windows in which the run's pairs are answered."""
        return self.path / ".window"

    @property
    def review_lock(self) -> Path:
        """Shared by all windows in which the run's answers are reviewed."""
        return self.path / ".review"

    @property
    def labels(self) -> "LabelStore":
        """The run's label store.

        Raises:
            UserError: It has none, or that is gone.
        """
        return self.open_labels()

    def open_labels(self, *, read_only: bool = False) -> "LabelStore":
        """The run's label store, `labels` unless it is only to be read; raises what that does."""
        from prefrl.labels.store import LabelStore

        if not self.label_file.exists():
            raise UserError(f"'{self.path}' has no label store ({self.label_file.name})")
        return LabelStore(self.label_file, read_only=read_only)

    def reward(self, observations: np.ndarray, actions: np.ndarray) -> np.ndarray:
        """The learned reward `(n,)`, dimensionless.

        Args:
            observations: `(n, obs_dim)`, raw.
            actions: `(n, *action_shape)`, as the environment takes them.
        """
        from prefrl.clips.recorder import encode_actions

        space = self.policy.model.action_space
        encoded = encode_actions(space, np.reshape(actions, (-1, *(space.shape or ()))))
        return self.ensemble.reward(observations, encoded)


def _is_empty(path: Path) -> bool:
    return path.is_dir() and not any(path.iterdir())


def file_name(env_id: str) -> str:
    """A Gymnasium id as a part of a folder's name."""
    return env_id.replace("/", "-").replace(":", "-")


def default_folder(env_id: str, seed: int) -> Path:
    """A folder in `runs/` that does not exist yet, named after environment and seed."""
    base = Path("runs") / f"{file_name(env_id)}-seed{seed}"
    path, n = base, 2
    while path.exists():
        path, n = Path(f"{base}-{n}"), n + 1
    return path


def versions(*configs: Config) -> dict[str, str]:
    """Versions of Python, prefrl and what the results of these configurations depend on."""
    pooled = any(config.env.backend == "envpool" for config in configs)
    packages = (*PACKAGES, "envpool") if pooled else PACKAGES
    return {"python": platform.python_version(), "prefrl": version("prefrl")} | {
        package: _installed(package) for package in packages
    }


def _installed(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:  # what is finished can be looked at without it
        return "(absent)"


def source_commit() -> str | None:
    """Git commit of the source that runs, if it runs from a checkout."""
    here = Path(__file__)
    # Installed into another project's repository, it is not of that project's commit.
    if _git("ls-files", "--error-unmatch", here.name, folder=here.parent) is None:
        return None
    return _git("rev-parse", "HEAD", folder=here.parent)


def _git(*arguments: str, folder: Path) -> str | None:
    """What a git command says; None if there is no git, or it fails."""
    try:
        done = subprocess.run(
            ["git", *arguments], cwd=folder, capture_output=True, text=True, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
