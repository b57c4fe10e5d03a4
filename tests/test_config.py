from pathlib import Path

import numpy as np
import pytest
import yaml

from prefrl.agent.trial import check_env
from prefrl.config import Config
from prefrl.configfile import (
    PRESETS,
    config_to_tree,
    load_config,
    read_config,
    read_yaml,
    save_config,
)
from prefrl.errors import UserError

ENV = "prefrl/PointMass-v0"


def test_defaults_then_preset_then_arguments():
    assert load_config("Acrobot-v1", {}).agent.gamma == Config().agent.gamma
    preset = load_config("HalfCheetah-v5", {})
    assert (preset.agent.gamma, preset.labels.budget) == (0.98, 700)
    given = load_config("HalfCheetah-v5", {"agent": {"gamma": 0.9}, "labels": {"budget": 300}})
    assert (given.agent.gamma, given.labels.budget) == (0.9, 300)
    assert given.agent.clip_range == preset.agent.clip_range


def test_round_trip_through_yaml(tmp_path):
    config = load_config(ENV, {"reward": {"hidden": [32, 16]}, "agent": {"learning_rate": "3e-4"}})
    save_config(config, tmp_path / "config.yaml")
    assert read_config(tmp_path / "config.yaml") == config
    assert config.reward.hidden == (32, 16)
    assert config.agent.learning_rate == 3e-4
    assert yaml.safe_load((tmp_path / "config.yaml").read_text()) == config_to_tree(config)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"agents": {}}, "unknown section 'agents': did you mean 'agent'"),
        ({"agent": {"gama": 0.9}}, "unknown key 'agent.gama': did you mean 'gamma'"),
        ({"agent": {"gamma": "high"}}, "agent.gamma must be float, got 'high'"),
        ({"agent": {"n_epochs": 2.5}}, "agent.n_epochs must be int, got 2.5"),
        ({"agent": {"anneal": "yes"}}, "agent.anneal must be bool"),
        ({"reward": {"hidden": 3}}, "reward.hidden must be list"),
        ({"agent": 3}, "must hold keys, got 3"),
        ({"labels": {"budget": 0}}, "labels must be at least 1, got 0"),
        ({"labels": {"budget": -5}}, "labels must be at least 1, got -5"),
        ({"run": {"steps": 0}}, "steps must be from 1 to 1e+10, got 0"),
        ({"run": {"seed": -1}}, "seed must be at least 0, got -1"),
        ({"env": {"termination": "alow"}}, "did you mean 'allow'"),
        ({"labels": {"labeller": "oracel"}}, "did you mean 'oracle'"),
        ({"labels": {"labeller": "none"}}, "add --labels-from"),
        ({"labels": {"initial": -0.1}}, "labels.initial must be from 0 to 1, got -0.1"),
        ({"labels": {"decay": -1}}, "labels.decay must be at least 0, got -1"),
        ({"labels": {"decay": ".inf"}}, "labels.decay must be float, got '.inf'"),
        ({"labels": {"decay": float("inf")}}, "labels.decay must be finite, got inf"),
        ({"agent": {"gamma": 2}}, "agent.gamma must be from 0 to 1, got 2.0"),
        ({"agent": {"learning_rate": "nan"}}, "agent.learning_rate must be from 0 to 1, got nan"),
        ({"agent": {"net_arch": [64.7]}}, "agent.net_arch[0] must be int, got 64.7"),
        ({"reward": {"hidden": "64"}}, "reward.hidden must be list, got '64'"),
        ({"reward": {"hidden": [0]}}, "reward.hidden[0] must be at least 1, got 0"),
        ({"reward": {"error_rate": 1}}, "reward.error_rate must be from 0 to 0.999, got 1.0"),
        ({"reward": {"first_fit_steps": 0}}, "reward.first_fit_steps must be at least 1, got 0"),
        ({"clips": {"capacity": 0}}, "clips.capacity must be at least 2, got 0"),
        ({"clips": {"length": 200}}, "shorter than one clip of 200 steps"),
    ],
)
def test_bad_values_are_named(overrides, message):
    with pytest.raises(UserError) as error:
        load_config(ENV, overrides)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_large_seeds_are_not_rounded():
    seeds = 2**53, 2**53 + 1
    for kind in (int, np.int64):
        given = [load_config(ENV, {"run": {"seed": kind(seed)}}).run.seed for seed in seeds]
        assert given == [2**53, 2**53 + 1]
        assert all(type(seed) is int for seed in given)


def test_presets_by_name_and_path(tmp_path):
    (tmp_path / "mine.yaml").write_text("agent: {gamma: 0.5}\n")
    assert load_config("Ant-v5", {}, "mine.yaml").agent.gamma == 0.5
    assert load_config("Ant-v5", {}, str(tmp_path / "mine.yaml")).agent.gamma == 0.5
    assert load_config("Ant-v5", {}, "prefrl/PointMass-v0").clips.length == 15
    with pytest.raises(UserError, match="did you mean 'Hopper-v5'"):
        load_config("Ant-v5", {}, "Hoper-v5")
    with pytest.raises(UserError, match=r"'nowhere\.yaml' does not exist"):
        load_config("Ant-v5", {}, "nowhere.yaml")
    (tmp_path / "broken.yaml").write_text("agent: {gamma: [")
    with pytest.raises(UserError, match="not valid YAML"):
        load_config("Ant-v5", {}, "broken.yaml")
    (tmp_path / "list.yaml").write_text("- 1\n")
    with pytest.raises(UserError, match="must hold sections"):
        load_config("Ant-v5", {}, "list.yaml")


def test_keys_are_unique_but_may_be_merged(tmp_path):
    path = tmp_path / "keys.yaml"
    path.write_text("a: &a {n: 3}\nx: {y: &y {<<: *a, n: 4}}\nb: {<<: *y}\n")
    assert read_yaml(path, "preset") == {"a": {"n": 3}, "x": {"y": {"n": 4}}, "b": {"n": 4}}
    path.write_text("a: {n: 3, m: 2, n: 4}\n")
    with pytest.raises(UserError, match="'n' stands twice"):
        read_yaml(path, "preset")


@pytest.mark.parametrize("path", sorted(PRESETS.glob("*.yaml")), ids=lambda p: p.stem)
def test_every_preset_fits_its_environment(path: Path):
    env_id = path.stem.replace("prefrl-", "prefrl/")
    config = load_config(env_id, {})
    assert config.rollout_steps % config.agent.batch_size == 0
    assert len(check_env(config.env, config.clips.length)) == config.clips.length
    assert path.read_text().startswith("#"), "a preset says where its numbers come from"


@pytest.mark.parametrize(
    ("overrides", "path"),
    [
        ({}, True),
        ({"labels": {"budget": 300}}, True),
        ({"labels": {"oracle": "kneel.py:score"}}, False),
        ({"labels": {"question": "Which one kneels?", "labeller": "human"}}, False),
        ({"labels": {"question": "Which one kneels?"}}, True),
        ({"labels": {"oracle": "kneel.py:score"}, "reward": {"linear_path": True}}, True),
    ],
)
def test_how_a_preset_shapes_the_reward_is_for_its_own_question(overrides, path):
    reward = load_config("Ant-v5", overrides).reward
    assert reward.linear_path == path
    assert reward.squares == (path and not overrides.get("reward"))
    named = load_config("Ant-v5", overrides, "Ant-v5").reward
    assert named.linear_path
    assert named.squares
