"""Configurations from presets, YAML and arguments, and back to YAML.

Command line, YAML and Python give the same object, which is written beside every result::

    config = load_config("HalfCheetah-v5", {"labels": {"budget": 200}})
    config.agent.gamma, config.labels.budget
    save_config(config, path)
"""

import dataclasses
import typing
from collections.abc import Mapping
from dataclasses import replace
from numbers import Integral
from pathlib import Path
from typing import Any

import yaml

from prefrl.config import Config, check_config
from prefrl.errors import UserError, nearest, one_line

PRESETS = Path(__file__).parent / "presets"

FOR_ITS_QUESTION = {"linear_path", "squares"}
"""Keys of `reward` in a preset that suit what the preset asks, and maybe nothing else."""


def load_config(
    env_id: str, overrides: Mapping[str, Mapping[str, Any]], preset: str | None = None
) -> Config:
    """The configuration for `env_id`: defaults, then its preset, then `overrides`.

    An environment's own preset shapes the reward (`FOR_ITS_QUESTION`) for what that asks, which is
    speed at little effort; where `overrides` ask something else, by an oracle of the user's own or
    by a question to a person, that is left out.

    Args:
        env_id: Gymnasium id.
        overrides: Values by section and key, as in a preset.
        preset: A preset's name or a YAML file's path; the environment's own, if there is one,
            when None.

    Raises:
        UserError: An unknown preset, section or key, or a value that cannot work.
    """
    tree: dict[str, dict[str, Any]] = {}
    for source, sections in (
        (f"preset {preset or env_id}", read_preset(env_id, preset)),
        ("the arguments", overrides),
    ):
        if not isinstance(sections, Mapping):
            raise UserError(f"{source} must hold sections such as 'agent:', got {sections!r}")
        for section, values in sections.items():
            if not isinstance(values, Mapping):
                raise UserError(f"section '{section}' of {source} must hold keys, got {values!r}")
            tree.setdefault(str(section), {}).update(values)
    labels = overrides.get("labels", {})
    person = tree.get("labels", {}).get("labeller") == "human"
    if preset is None and (labels.get("oracle") or (person and labels.get("question"))):
        for key in FOR_ITS_QUESTION - set(overrides.get("reward", {})):
            tree.get("reward", {}).pop(key, None)
    if (named := tree.setdefault("env", {}).setdefault("id", env_id)) != env_id:
        raise UserError(f"the preset is for {named}, not for {env_id}: leave out its env.id")
    return config_from_tree(tree)


def read_preset(env_id: str, preset: str | None = None) -> Mapping[str, Mapping[str, Any]]:
    """Sections of the preset named or at path `preset`, or of `env_id`'s own (empty if none)."""
    if preset is None:
        path = PRESETS / f"{env_id.split(':')[-1].replace('/', '-')}.yaml"
        return read_yaml(path, "preset") or {} if path.exists() else {}
    return read_yaml(find_yaml(preset, PRESETS, "preset"), "preset") or {}


def find_yaml(name: str, folder: Path, kind: str) -> Path:
    """The file of that name in `folder`, or at that path if the name ends like one.

    Args:
        name: A name without its ending (`/` stands for `-`), or a path ending in `.yaml` or `.yml`.
        folder: Where the known ones are.
        kind: What it is, to name in errors, such as `preset`.

    Raises:
        UserError: There is none; the nearest is named.
    """
    if name.endswith((".yaml", ".yml")):
        path = Path(name)
        if not path.is_file():
            raise UserError(f"{kind} file '{name}' does not exist")
        return path
    path = folder / f"{name.replace('/', '-')}.yaml"
    if not path.is_file():
        if (own := Path(f"{name}.yaml")).is_file():
            raise UserError(f"unknown {kind} '{name}': did you mean the file '{own}'?")
        known = [found.stem for found in folder.glob("*.yaml")]
        raise UserError(f"unknown {kind} '{name}': {nearest(name, known)}")
    return path


def read_yaml(path: Path, kind: str) -> Any:
    """What the YAML file holds.

    Raises:
        UserError: It cannot be read.
    """
    try:
        return yaml.load(path.read_text(), _UniqueKeys)
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {kind} '{path}': {error}") from None
    except (yaml.YAMLError, ValueError) as error:  # a date that there is not is a ValueError
        raise UserError(f"{path} is not valid YAML: {one_line(error)}") from None


class _UniqueKeys(yaml.SafeLoader):
    """YAML in which a key that stands twice is an error, not the end of the first."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        keys = [(key.tag, key.value) for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.constructor.ConstructorError(
                    None, None, f"'{key[1]}' stands twice", node.start_mark
                )
        return node


def config_from_tree(tree: Mapping[str, Mapping[str, Any]]) -> Config:
    """Build and check a `Config` from values by section and key.

    Raises:
        UserError: An unknown section or key (the nearest is named), or a wrong type or value.
    """
    sections = {f.name: f.type for f in dataclasses.fields(Config)}
    for section in tree:
        if section not in sections:
            raise UserError(f"unknown section '{section}': {nearest(section, list(sections))}")
    config = Config(
        **{
            name: _build(name, typing.cast(type, cls), tree.get(name, {}))
            for name, cls in sections.items()
        }
    )
    check_config(config)
    return config


def config_to_tree(config: Config) -> dict[str, dict[str, Any]]:
    """Values by section and key, in plain YAML types."""
    return {
        section: {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}
        for section, values in dataclasses.asdict(config).items()
    }


def with_absolute_paths(config: Config) -> Config:
    """The same configuration, good from any working folder, as a later resume may need."""
    labels, rule = config.labels, config.query.rule

    def absolute(path: str) -> str:
        return str(Path(path).absolute()) if path else ""

    labels = replace(labels, oracle=absolute(labels.oracle), source=absolute(labels.source))
    query = replace(config.query, rule=absolute(rule) if ":" in rule else rule)
    return replace(config, labels=labels, query=query)


def save_config(config: Config, path: Path) -> None:
    """Write `config` as YAML."""
    path.write_text(config_to_text(config))


def config_to_text(config: Config) -> str:
    """`config` as YAML."""
    return yaml.safe_dump(config_to_tree(config), sort_keys=False)


def read_config(path: Path) -> Config:
    """Read what `save_config` wrote."""
    tree = yaml.safe_load(path.read_text())
    if not isinstance(tree, dict):
        raise ValueError("it holds no sections")
    return config_from_tree(tree)


def _build(section: str, cls: type, values: Mapping[str, Any]) -> Any:
    fields = {f.name: f for f in dataclasses.fields(cls)}
    built = {}
    for key, value in values.items():
        if key not in fields:
            raise UserError(f"unknown key '{section}.{key}': {nearest(str(key), list(fields))}")
        built[key] = _convert(f"{section}.{key}", value, getattr(cls(), key))
    return cls(**built)


def _convert(name: str, value: Any, default: Any) -> Any:
    """`value` in the type of `default`; YAML reads 3e-4 as a string, so text may be a number."""
    kind = type(default)
    try:
        if kind is bool or kind is dict or kind is str:
            if isinstance(value, kind):
                return value
        elif kind is tuple:
            if isinstance(value, list | tuple):
                return tuple(_convert(f"{name}[{i}]", v, 0) for i, v in enumerate(value))
        elif kind is int and isinstance(value, Integral) and not isinstance(value, bool):
            return int(value)  # one that a float would round, as a seed may be
        elif kind is int and not isinstance(value, bool) and float(value) == int(float(value)):
            return int(float(value))
        elif kind is float and not isinstance(value, bool):
            return float(value)
    except UserError:
        raise
    except (TypeError, ValueError, OverflowError):
        pass
    wanted = "list" if kind is tuple else kind.__name__
    if kind is str and callable(value):  # which a resumed run could not find again
        wanted = "'FILE.py:FUNC', a function in a file"
    raise UserError(f"{name} must be {wanted}, got {value!r}")
