"""Suites: tables of runs, task by condition by seed, written in YAML.

::

    about: Does asking about the most disputed pairs help?
    seeds: 5
    reference: true-reward            # the condition that counts as 1 ...
    baseline: random                  # ... and the one that others are compared with
    tasks:
      HalfCheetah-v5: {run: {steps: 300000}}
      Swimmer-v5: {run: {steps: 300000}, seeds: 3}
    conditions:
      true-reward: {run: {true_reward: true}}
      random: {query: {rule: random}}
      hybrid: {query: {rule: hybrid}}

Tasks and conditions hold sections and keys of `prefrl.config`, on top of the task's preset; where
both hold a key, the condition's value counts.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prefrl.config import Config, EnvConfig
from prefrl.configfile import config_to_tree, find_yaml, load_config, read_yaml, with_absolute_paths
from prefrl.errors import UserError, nearest
from prefrl.registry import find_spec
from prefrl.run import file_name

SUITES = Path(__file__).parent.parent / "suites"

KEYS = ("about", "seeds", "reference", "baseline", "tasks", "conditions")

RANDOM_ACTIONS = "random-actions"
"""In place of a condition: what a policy gets which acts at random."""

ALL = "all"
"""In place of a task: all of them."""

RESERVED = {RANDOM_ACTIONS: "what a policy gets which acts at random", ALL: "all tasks together"}
"""Names that no condition may have, and what they stand for."""

Overrides = Mapping[str, Mapping[str, Any]]
"""Values by section and key of the configuration."""


@dataclass(frozen=True)
class Cell:
    """One run of a suite."""

    task: str
    """Gymnasium id."""
    condition: str
    seed: int
    config: Config

    @property
    def key(self) -> tuple[str, str, int]:
        """Which run it is."""
        return self.task, self.condition, self.seed

    @property
    def folder(self) -> str:
        """Name of its run folder."""
        return f"{folder_of(self.task, self.condition)}{self.seed}"


def folder_of(task: str, condition: str) -> str:
    """What the names of the run folders of a task and condition begin with; the seed follows."""
    return f"{file_name(task)}-{condition}-seed"


@dataclass(frozen=True)
class Suite:
    """What to run, and what to compare it with."""

    name: str
    about: str
    """One sentence: what the suite is to show."""
    seeds: Mapping[str, int]
    """How many, by task."""
    tasks: Mapping[str, Overrides]
    conditions: Mapping[str, Overrides]
    reference: str = ""
    """The condition whose mean return counts as 1; returns are not normalised without one."""
    baseline: str = ""
    """The condition over which others are to be an improvement; none are compared without one."""

    def cells(self, seeds: int | None = None) -> list[Cell]:
        """All runs, seed by seed, so that a suite that is stopped has some of everything.

        Args:
            seeds: How many for each task; None: as the suite says.

        Raises:
            UserError: A configuration cannot work.
        """
        counts = {task: self.seeds[task] if seeds is None else seeds for task in self.tasks}
        return [
            Cell(task, name, seed, self.config(task, name, seed))
            for seed in range(max(counts.values()))
            for task in self.tasks
            for name in self.conditions
            if seed < counts[task]
        ]

    def reference_env(self, task: str) -> EnvConfig:
        """The environment in which random actions are measured: the reference's, or the first's."""
        return self.config(task, self.reference or next(iter(self.conditions))).env

    def config(self, task: str, condition: str, seed: int = 0) -> Config:
        """The configuration of one run; paths in it are taken from the working directory.

        Raises:
            UserError: It cannot work.
        """
        merged: dict[str, dict[str, Any]] = {}
        for overrides in (self.tasks[task], self.conditions[condition]):
            for section, values in overrides.items():
                merged.setdefault(section, {}).update(values)
        merged.setdefault("run", {})["seed"] = seed
        try:
            return with_absolute_paths(load_config(task, merged))
        except UserError as error:
            raise UserError(f"suite '{self.name}', {task} under '{condition}': {error}") from None


def difference(found: Config, wanted: Config) -> str:
    """The first key in which two configurations differ, and both values; empty if there is none.

    Where both learn from the true reward, what is asked and how it is fitted makes no difference.
    """
    have, want = config_to_tree(found), config_to_tree(wanted)
    labelless = found.run.true_reward and wanted.run.true_reward
    for section in ("env", "agent", "run") if labelless else want:
        for key, value in want[section].items():
            if have[section][key] != value:
                return f"{section}.{key} {have[section][key]!r}, not {value!r}"
    return ""


def load_suite(name: str) -> Suite:
    """The suite of that name, or in that YAML file.

    Raises:
        UserError: There is none, or it names an unknown key, task or condition.
    """
    path = find_yaml(name, SUITES, "suite")
    return suite_from_tree(path.stem, read_yaml(path, "suite"))


def suite_from_tree(name: str, tree: Any) -> Suite:
    """Check what a suite's YAML holds, and make the suite.

    Raises:
        UserError: An unknown key, task or condition (the nearest is named), or a wrong value.
    """
    tree = _mapping(tree, f"suite '{name}'")
    for key in tree:
        if key not in KEYS:
            raise UserError(
                f"suite '{name}' has an unknown key '{key}': {nearest(key, list(KEYS))}"
            )
    tasks, conditions = (_read_part(name, tree, part) for part in ("tasks", "conditions"))
    for task in tasks:
        try:
            find_spec(task)
        except UserError as error:
            raise UserError(f"suite '{name}': {error}") from None
    for condition in conditions:
        if condition in RESERVED:
            raise UserError(
                f"suite '{name}': a condition cannot be called '{condition}', which stands for "
                f"{RESERVED[condition]}"
            )
        if not re.fullmatch(r"[A-Za-z0-9][\w.+-]*", condition):
            raise UserError(
                f"suite '{name}': a condition cannot be called '{condition}': take letters, "
                f"digits, '-', '+', '.' and '_'"
            )
    seeds = _take_seeds(name, tasks, tree.get("seeds", 5))
    for part in (tasks, conditions):
        _check_sections(name, part)
    named = {key: _read_condition(name, tree, key, conditions) for key in ("reference", "baseline")}
    suite = Suite(name, str(tree.get("about") or ""), seeds, tasks, conditions, **named)
    _check_labellers(suite)
    return suite


def _read_part(name: str, tree: dict[str, Any], part: str) -> dict[str, dict[str, Any]]:
    """`tasks` or `conditions`, each with its overrides."""
    entries = _mapping(tree.get(part), f"'{part}' of suite '{name}'")
    if not entries:
        raise UserError(f"suite '{name}' has no {part}")
    return {
        key: _mapping({} if value is None else value, f"'{key}' in '{part}' of suite '{name}'")
        for key, value in entries.items()
    }


def _take_seeds(name: str, tasks: dict[str, dict[str, Any]], default: Any) -> dict[str, int]:
    """How many seeds each task has, which is taken out of its overrides."""
    seeds = {task: values.pop("seeds", default) for task, values in tasks.items()}
    for task, count in seeds.items():
        if type(count) is not int or count < 1:
            raise UserError(f"suite '{name}': seeds of {task} must be at least 1, got {count!r}")
    return seeds


def _read_condition(name: str, tree: dict[str, Any], key: str, conditions: Iterable[str]) -> str:
    """The condition that is the suite's `reference` or `baseline`; empty if none is."""
    value = str(tree.get(key) or "")
    if value and value not in conditions:
        hint = nearest(value, list(conditions))
        raise UserError(f"suite '{name}': {key} '{value}' is none of its conditions: {hint}")
    return value


def _check_sections(name: str, part: dict[str, dict[str, Any]]) -> None:
    """Whether tasks or conditions hold sections of a configuration, and leave the seed alone."""
    for key, values in part.items():
        for section, inner in values.items():
            inner = _mapping(inner, f"section '{section}' of '{key}' of suite '{name}'")
            if section == "run" and "seed" in inner:
                raise UserError(
                    f"suite '{name}': '{key}' sets run.seed, but each run has a seed of its "
                    f"own: say how many with 'seeds'"
                )


def _check_labellers(suite: Suite) -> None:
    """Whether each run's configuration can work, without a person."""
    for task in suite.tasks:
        for condition in suite.conditions:
            if suite.config(task, condition).watched:
                raise UserError(
                    f"suite '{suite.name}', {task} under '{condition}': nobody is at hand to "
                    f"answer: take labeller 'oracle', or `prefrl train` for people"
                )


def _mapping(value: Any, what: str) -> dict[str, Any]:
    wanted = f"{what} must hold names, each with its values, got"
    if not isinstance(value, dict):
        raise UserError(f"{wanted} {value!r}")
    for key in value:
        if not isinstance(key, str):  # as true, on, no and 350 are not
            raise UserError(f"{wanted} {key!r} for a name: put it in quotes")
    return dict(value)
