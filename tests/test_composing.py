"""Parts put together in a script of the user's own: what does not fit is refused."""

import pytest
from stable_baselines3 import PPO, SAC
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

import prefrl
from envs.point_mass import PointMassEnv
from prefrl.errors import UserError


def compose(tmp_path, above=prefrl.LearnedReward, agent=PPO, **options):
    """An agent on the point mass, and its loop; `above` makes what it acts in."""
    recorder = prefrl.ClipRecorder(DummyVecEnv([PointMassEnv] * 4), length=15, rollout_steps=120)
    ensemble = prefrl.RewardEnsemble(*recorder.dims)
    store = prefrl.LabelStore(tmp_path / "labels.db")
    schedule = prefrl.LabelSchedule(budget=8, until=900)
    loop = prefrl.PreferenceLoop(recorder, ensemble, store, prefrl.Oracle(), schedule)
    return agent("MlpPolicy", above(recorder, ensemble), **options), loop


def test_what_fits_learns(tmp_path):
    agent, loop = compose(
        tmp_path, lambda *parts: VecNormalize(prefrl.LearnedReward(*parts)), n_steps=120,
        batch_size=96,
    )  # fmt: skip
    agent.learn(1920, callback=loop)
    assert loop.metrics["label/answered"] == 8
    loop.store.close()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_steps": 60, "batch_size": 60}, r"n_steps \(60\) the recorder's rollout_steps \(120\)"),
        ({"agent": SAC}, "must be on-policy"),
        (
            {"above": lambda recorder, _: recorder, "n_steps": 120, "batch_size": 96},
            "would learn from the environment's own reward",
        ),
    ],
    ids=["rollouts", "off-policy", "true reward"],
)
def test_what_does_not_fit_is_refused(tmp_path, options, message):
    agent, loop = compose(tmp_path, **options)
    with pytest.raises(UserError, match=message):
        agent.learn(960, callback=loop)
    assert loop.store.count_asked() == 0
    loop.store.close()


def test_a_recorder_that_could_give_no_clips_or_none_of_raw_observations_is_refused():
    with pytest.raises(UserError, match="15 steps does not fit into a rollout of 10"):
        prefrl.ClipRecorder(DummyVecEnv([PointMassEnv]), length=15, rollout_steps=10)
    with pytest.raises(UserError, match="put VecNormalize above the recorder"):
        prefrl.ClipRecorder(VecNormalize(DummyVecEnv([PointMassEnv])), length=15)
