"""The stack that an agent acts in, built from a configuration, saved and restored as a whole.

env → Monitor → TimedVecEnv → ClipRecorder → LearnedReward → VecNormalize → PatientPPO. With the
true reward, the recorder and the learned reward are left out; with EnvPool, PoolVecEnv comes first.
Copies that begin anew early have no Monitor, which reports returns.
"""

import io
from pathlib import Path
from typing import Any

import numpy as np
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.running_mean_std import RunningMeanStd
from stable_baselines3.common.save_util import load_from_zip_file
from stable_baselines3.common.vec_env import VecEnv, VecNormalize

from prefrl.agent.envs import TimedVecEnv, restarts_early
from prefrl.agent.policy import check_spaces_kept
from prefrl.agent.pool import PoolVecEnv
from prefrl.agent.ppo import PatientPPO, make_ppo
from prefrl.agent.reward_env import LearnedReward
from prefrl.clips.recorder import ClipRecorder, input_dims
from prefrl.clips.simulator import array_to_generator, generator_to_array
from prefrl.clock import Stopwatch
from prefrl.config import Config
from prefrl.errors import UserError
from prefrl.reward.ensemble import RewardEnsemble
from prefrl.reward.fit import RewardFitter

STREAMS = ("agent", "envs", "ensemble", "clips", "queries", "fit", "bootstrap", "mistakes")
"""What draws random numbers in a run, each from a stream of its own. Environments in this process
are the exception: SB3's PPO seeds them from the agent's where a run starts, and "envs" is for
EnvPool's and for a resumed run's."""


class Stack:
    """Environments, recorder, reward and agent of one run.

    Args:
        config: What to build.
        stopwatch: Counts the environments' time.
    """

    def __init__(self, config: Config, stopwatch: Stopwatch) -> None:
        self._config = config
        children = np.random.SeedSequence(config.run.seed).spawn(len(STREAMS))
        streams = dict(zip(STREAMS, children, strict=True))
        self.seeds = {name: int(s.generate_state(1)[0] >> 1) for name, s in streams.items()}
        self.generators = {
            name: np.random.default_rng(streams[name]) for name in ("clips", "queries", "fit")
        }
        self.envs: TimedVecEnv | PoolVecEnv
        seed = self.seeds["envs"]
        if config.env.backend == "envpool":
            self.envs = PoolVecEnv(config.env, seed=seed, stopwatch=stopwatch)
        else:
            self.envs = TimedVecEnv(
                config.env, seed=seed, stopwatch=stopwatch, drawable=config.watched
            )
        self.recorder: ClipRecorder | None = None
        self.rewarded: LearnedReward | None = None
        self.ensemble: RewardEnsemble | None = None
        self.fitter: RewardFitter | None = None
        venv: VecEnv = self.envs
        if not config.run.true_reward:
            self.recorder = ClipRecorder(
                self.envs,
                length=config.clips.length,
                rollout_steps=config.agent.n_steps,
                capacity=config.clips.capacity,
                rng=self.generators["clips"],
                camera=self.envs.camera if config.watched else None,
            )
            self.ensemble = make_ensemble(config, self.recorder.dims, self.seeds["ensemble"])
            self.fitter = RewardFitter(
                self.ensemble,
                learning_rate=config.reward.learning_rate,
                batch_size=config.reward.batch_size,
                error_rate=config.reward.error_rate,
                rng=self.generators["fit"],
            )
            early = restarts_early(config.env)
            venv = self.rewarded = LearnedReward(self.recorder, self.ensemble, early=early)
        self.normalise = VecNormalize(venv, gamma=config.agent.gamma)
        self.model: PatientPPO = make_ppo(config.agent, self.normalise, self.seeds["agent"])

    def save(self, folder: Path) -> None:
        """Write everything that decides how the run goes on into `folder`."""
        self.model.save(folder / "policy.zip")
        arrays: dict[str, Any] = {"normalise/returns": self.normalise.returns}
        for name, scale in self._scales().items():
            for part in ("mean", "var", "count"):
                arrays[f"normalise/{name}_{part}"] = getattr(scale, part)
        for name, generator in self.generators.items():
            arrays[f"generator/{name}"] = generator_to_array(generator)
        for i, saved in enumerate(self.envs.save_state()):
            arrays |= {f"env/{i}/{key}": value for key, value in saved.items()}
        # SB3 shuffles minibatches with NumPy's global generator and samples with torch's.
        _, keys, position, has_gauss, gauss = np.random.get_state(legacy=True)  # noqa: NPY002
        arrays |= {"numpy/keys": keys, "numpy/rest": np.array([position, has_gauss, gauss])}
        assert self.model.generator_state is not None, "saved after an update"
        arrays["torch"] = self.model.generator_state.numpy()
        if self.recorder and self.rewarded and self.ensemble and self.fitter:
            arrays["recorder/observations"] = self.recorder.last_observations
            arrays["recorder/steps"] = np.int64(self.recorder.steps)
            arrays["recorder/info_keys"] = np.array(self.recorder.buffer.info_keys, np.str_)
            for key, value in self.recorder.buffer.state_dict().items():
                arrays[f"clips/{key}"] = value
            arrays["reward/running_returns"] = self.rewarded.running_returns
            arrays["reward/episode_returns"] = np.array(self.rewarded.episode_returns)
            state = {"ensemble": self.ensemble.state_dict(), "fitter": self.fitter.state_dict()}
            file = io.BytesIO()  # torch reports a full disk as anything but an OSError
            torch.save(state, file)
            (folder / "reward.pt").write_bytes(file.getvalue())
        np.savez(folder / "arrays.npz", **arrays)

    def load(self, folder: Path) -> bool:
        """Go on from what `save` wrote; give whether that is exact.

        An environment whose state cannot be read starts a new episode; so does one that is filmed,
        because films, without which none of its clips can be asked about, are not saved.
        """
        with np.load(folder / "arrays.npz", allow_pickle=False) as file:
            arrays = {key: file[key] for key in file.files}
        agent, _, _ = load_from_zip_file(folder / "policy.zip", device="cpu")
        assert agent
        trained = agent["observation_space"], agent["action_space"]
        check_spaces_kept(*trained, self.envs, self._config.env.id)
        self.normalise.reset()
        saved = [_part(arrays, f"env/{i}/") for i in range(self.envs.num_envs)]
        films = bool(self.recorder and self.recorder.films)
        exact = not films and self.envs.load_state(saved)
        for name, scale in self._scales().items():
            scale.mean = arrays[f"normalise/{name}_mean"]
            scale.var = arrays[f"normalise/{name}_var"]
            scale.count = float(arrays[f"normalise/{name}_count"])
        for name, generator in self.generators.items():
            array_to_generator(arrays[f"generator/{name}"], generator)
        self.model = PatientPPO.load(
            folder / "policy.zip",
            env=self.normalise,
            device="cpu",
            force_reset=False,
            # SB3 refuses types and bounds that are others, which decide nothing here.
            custom_objects={
                "observation_space": self.normalise.observation_space,
                "action_space": self.normalise.action_space,
            },
        )
        if exact:
            self.normalise.returns = arrays["normalise/returns"]
        else:
            raw = self.normalise.old_obs
            self.model._last_obs = self.normalise.normalize_obs(raw)
            self.model._last_episode_starts = np.ones(self.envs.num_envs, bool)
        if self.recorder and self.rewarded and self.ensemble and self.fitter:
            self.recorder.allocate(tuple(str(k) for k in arrays["recorder/info_keys"]))
            self._check_states(arrays["clips/states"], folder)
            self.recorder.buffer.load_state_dict(_part(arrays, "clips/"))
            self.recorder.steps = int(arrays["recorder/steps"])
            if exact:
                self.recorder.resume(arrays["recorder/observations"])
                self.rewarded.running_returns = arrays["reward/running_returns"]
            self.rewarded.episode_returns.extend(arrays["reward/episode_returns"].tolist())
            state = _load_reward(folder, self.ensemble)
            self.fitter.load_state_dict(state["fitter"])
        position, has_gauss, gauss = arrays["numpy/rest"]
        np.random.set_state(  # noqa: NPY002
            ("MT19937", arrays["numpy/keys"], int(position), int(has_gauss), float(gauss))
        )
        torch.set_rng_state(torch.from_numpy(arrays["torch"]))
        return exact

    def _check_states(self, saved: np.ndarray, folder: Path) -> None:
        """Whether clips are drawn from as many numbers as those `saved`.

        Raises:
            UserError: They are not.
        """
        assert self.recorder
        then, now = (len(states[0, 0]) for states in (saved, self.recorder.buffer.arrays["states"]))
        if then != now:
            raise UserError(
                f"clips in '{folder}' are drawn from a state of {then} numbers, which is of {now} "
                f"for {self._config.env.id} now: undo what was changed in it "
                f"(metadata['drawn_from_state'], where that is new), or train anew"
            )

    def _scales(self) -> dict[str, RunningMeanStd]:
        """Running statistics of observations and of returns."""
        scales = {"obs": self.normalise.obs_rms, "ret": self.normalise.ret_rms}
        return {k: v for k, v in scales.items() if isinstance(v, RunningMeanStd)}

    def close(self) -> None:
        """Close the environments."""
        self.normalise.close()


def make_ensemble(config: Config, dims: tuple[int, int], seed: int = 0) -> RewardEnsemble:
    """An untrained ensemble as configured, for inputs of widths `dims`."""
    return RewardEnsemble(
        *dims,
        members=config.reward.members,
        hidden=config.reward.hidden,
        linear_path=config.reward.linear_path,
        squares=config.reward.squares,
        seed=seed,
    )


def load_ensemble(checkpoint: Path, config: Config, model: PPO) -> RewardEnsemble:
    """The reward ensemble of a checkpoint whose agent is `model`."""
    ensemble = make_ensemble(config, input_dims(model.observation_space, model.action_space))
    _load_reward(checkpoint, ensemble)
    return ensemble


def _load_reward(checkpoint: Path, ensemble: RewardEnsemble) -> dict[str, Any]:
    """Restore the ensemble of a checkpoint; give all that is saved of the reward.

    Raises:
        UserError: The run is configured for networks of another kind, or was for none.
    """
    if not (checkpoint / "reward.pt").exists():
        raise UserError(
            f"'{checkpoint}' is of a run on the true reward, which the run's config.yaml no longer "
            f"says: undo what was changed as run.true_reward"
        )
    state = torch.load(checkpoint / "reward.pt", weights_only=True)
    try:
        ensemble.load_state_dict(state["ensemble"])
    except RuntimeError:
        raise UserError(
            f"'{checkpoint}' holds reward networks of another kind than the run's config.yaml "
            f"says: undo what was changed in its section 'reward', or train anew"
        ) from None
    return state


def _part(arrays: dict[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    return {k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)}
