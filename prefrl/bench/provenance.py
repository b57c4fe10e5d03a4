"""What a results folder was made with, in its `suite.yaml`, so that nothing else is mixed in.

::

    versions:         of the packages that results depend on
    configurations:   of each task and condition
    random_actions:   the environment that random actions were measured in, by task
    files:            fingerprints of the user's own environments, rules, oracles and labels, of
                      each task and condition
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path

import yaml

from prefrl.bench.suites import RANDOM_ACTIONS, Suite, difference
from prefrl.config import Config
from prefrl.configfile import config_from_tree, config_to_tree, read_yaml
from prefrl.errors import RunFailed, UserError
from prefrl.files import replace_text
from prefrl.registry import module_file
from prefrl.run import Run, versions
from prefrl.usercode import fingerprints, what_decides

LOCK = ".bench"
"""In a results folder: held by the bench that writes into it."""

Pairs = Collection[tuple[str, str]]
"""Tasks and conditions."""


class Provenance:
    """The `suite.yaml` of a results folder.

    Args:
        folder: The results folder.

    Raises:
        UserError: The file cannot be read.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._path = folder / "suite.yaml"
        try:
            known = read_yaml(self._path, "suite") if self._path.exists() else {}
            self._versions: dict[str, str] = dict(known.get("versions", {}))
            self._configurations: dict[str, dict] = dict(known.get("configurations", {}))
            self._random_actions: dict[str, dict] = dict(known.get("random_actions", {}))
            files: dict[str, dict] = known.get("files", {})
            self._files: dict[str, dict[str, dict[str, str]]] = {
                task: {name: dict(found) for name, found in by_name.items()}
                for task, by_name in files.items()
            }
        except (UserError, ValueError, AttributeError, TypeError):
            raise UserError(f"'{self._path}' cannot be read: give another --out") from None

    @property
    def empty(self) -> bool:
        """Whether nothing is known."""
        return not self._configurations

    def refuse(self, suite: Suite, tried: Pairs, finished: Pairs) -> None:
        """Refuse a suite whose results would not be of the same making as those in the folder.

        Args:
            suite: What is to be run.
            tried: Of what the folder holds rows.
            finished: Of what it holds results.

        Raises:
            UserError: Says what differs.
        """
        if self.empty and (others := [p for p in self._folder.iterdir() if p.name != LOCK]):
            raise UserError(
                f"'{self._folder}' is no results folder: it holds '{others[0].name}', but no "
                f"suite.yaml that says what results were made with; give another --out"
            )
        configs = dict(_configurations(suite))
        if other := _other_version(self._versions, versions(*configs.values())):
            raise UserError(f"'{self._folder}' holds results of {other}: give another --out")
        for (task, name), config in configs.items():
            if (task, name) in tried:
                self._refuse_configuration(task, name, config)
            if (task, name) in finished and (
                file := self._other_file(task, name, what_decides(config))
            ):
                raise UserError(
                    f"'{self._folder}' holds results of {task} under '{name}' with '{file}' as it "
                    f"was before an edit: give another --out"
                )

    def edited(self, suite: Suite) -> Iterator[tuple[str, str, str]]:
        """Each task and condition that a file of the user's decides, and that file, if edited."""
        for (task, name), config in _configurations(suite):
            if file := self._other_file(task, name, what_decides(config)):
                yield task, name, file

    def measured_elsewhere(self, suite: Suite, task: str) -> bool:
        """Whether random actions were measured in another environment than the suite's."""
        place = asdict(suite.reference_env(task))
        return self._random_actions.get(task, place) != place or bool(
            self._other_file(task, RANDOM_ACTIONS, fingerprints([module_file(task)]))
        )

    def note(self, suite: Suite) -> None:
        """Write down what the suite is run with, beside what is known already."""
        for task in suite.tasks:
            self._random_actions[task] = asdict(suite.reference_env(task))
            self._note_files(task, RANDOM_ACTIONS, fingerprints([module_file(task)]))
        for (task, name), config in _configurations(suite):
            self._versions |= versions(config)
            self._configurations.setdefault(task, {})[name] = config_to_tree(config)
            self._note_files(task, name, what_decides(config))
        known = {
            "suite": suite.name,
            "versions": self._versions,
            "configurations": self._configurations,
            "random_actions": self._random_actions,
            "files": self._files,
        }
        replace_text(self._path, yaml.safe_dump(known, sort_keys=False))

    def check_run(self, task: str, name: str, run: Run) -> None:
        """Refuse a run that was trained elsewhere with other versions, or after an edit.

        Raises:
            RunFailed: Names the first package or file that differs.
        """
        if other := _other_version(run.record["versions"], self._versions):
            raise RunFailed(
                f"'{run.path}' was trained with {other}: delete it to have it trained anew"
            )
        if file := self._other_file(task, name, run.record.get("files", {})):
            raise RunFailed(
                f"'{run.path}' was trained with another '{file}' than the suite began with: "
                f"delete it to have it trained anew"
            )

    def _refuse_configuration(self, task: str, name: str, config: Config) -> None:
        old = self._configurations.get(task, {}).get(name)
        if not old:
            return
        try:
            found = config_from_tree(old)  # a key that is new since then has its default
        except UserError as error:
            raise UserError(f"'{self._folder}' is of another prefrl: {error}") from None
        if differs := difference(found, config):
            raise UserError(
                f"'{self._folder}' holds results of {task} under '{name}' with {differs}: give "
                f"another --out"
            )

    def _other_file(self, task: str, name: str, found: Mapping[str, str]) -> str:
        """The first file of which none with its fingerprint is known; empty if all are.

        By content: they may lie elsewhere now, and a file of that name elsewhere is another.
        """
        known = self._files.get(task, {}).get(name, {}).values()
        return next((file for file, now in found.items() if known and now not in known), "")

    def _note_files(self, task: str, name: str, found: Mapping[str, str]) -> None:
        if found:
            self._files.setdefault(task, {})[name] = dict(found)


def _configurations(suite: Suite) -> Iterator[tuple[tuple[str, str], Config]]:
    for task in suite.tasks:
        for name in suite.conditions:
            yield (task, name), suite.config(task, name)


def _other_version(found: Mapping[str, str], wanted: Mapping[str, str]) -> str:
    """The first package that both name in different versions, in words; empty if there is none."""
    for package, version in found.items():
        if wanted.get(package, version) != version:
            return f"{package} {version}, this is {package} {wanted[package]}"
    return ""
