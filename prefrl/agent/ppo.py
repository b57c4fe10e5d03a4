"""SB3's PPO, made from a configuration, and waiting until there is a reward to learn from."""

from typing import Any

import numpy as np
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.utils import LinearSchedule, explained_variance
from stable_baselines3.common.vec_env import VecEnv

from prefrl.agent.actor_critic import ActorCritic, is_plain
from prefrl.agent.adam import JointAdam
from prefrl.agent.update import Losses, batches, clip_norm, differentiate
from prefrl.config import AgentConfig
from prefrl.errors import RunFailed, UserError, nearest

DIVERGED = (
    "PPO's loss is no longer a number: are all observations and rewards of the environment finite? "
    "If so, train anew with a lower agent.learning_rate"
)

ACTIVATIONS = ["ReLU", "Tanh", "ELU", "GELU", "SiLU", "LeakyReLU"]


class PatientPPO(PPO):
    """PPO that collects rollouts but does not update its policy until it has a reward.

    The first labels are about the untrained policy's clips. Updates on a reward that is zero
    everywhere would move that policy by the noise of its critic. A saved policy loads with plain
    `PPO.load`.
    """

    has_reward: bool = True
    generator_state: torch.Tensor | None = None
    """Of torch's generator after the last update, from which the next rollout begins. By the time
    that callbacks run, gSDE has already drawn from it."""

    def _setup_model(self) -> None:
        super()._setup_model()
        self._networks = ActorCritic(self.policy) if is_plain(self.policy) else None
        if self._networks:
            self.policy.forward = self._networks.act  # type: ignore
            arrays = self._networks.parameters, self._networks.gradient
            self._adam = JointAdam(self.policy.optimizer, *map(torch.from_numpy, arrays))

    def _update_info_buffer(
        self, infos: list[dict[str, Any]], dones: np.ndarray | None = None
    ) -> None:
        """Keep the returns of episodes that ended, which Monitor reports.

        SB3's takes whatever is called `episode` at any step, such as a number of the environment's.
        """
        assert self.ep_info_buffer is not None
        for i in [] if dones is None else np.flatnonzero(dones):
            if isinstance(record := infos[i].get("episode"), dict):
                self.ep_info_buffer.append(record)

    def train(self) -> None:
        if self.has_reward and self._networks:
            self._optimise(self._networks)
        elif self.has_reward:
            try:
                super().train()
            except ValueError as error:  # torch's distributions refuse what is no number
                raise RunFailed(DIVERGED) from error
            if not np.isfinite(self.logger.name_to_value["train/loss"]):
                raise RunFailed(DIVERGED)
        self.generator_state = torch.get_rng_state()

    def _optimise(self, networks: ActorCritic) -> None:
        """What SB3's `train` does, to rounding, without torch's graph of operations."""
        self._update_learning_rate(self.policy.optimizer)
        clip_range = self.clip_range(self._current_progress_remaining)  # type: ignore[operator]
        losses: list[Losses] = []
        self._adam.begin()
        for _ in range(self.n_epochs):
            for batch in batches(self.rollout_buffer, self.batch_size):
                losses.append(
                    differentiate(
                        networks,
                        batch,
                        clip_range=clip_range,
                        ent_coef=self.ent_coef,
                        vf_coef=self.vf_coef,
                    )
                )
                clip_norm(networks.gradient, self.max_grad_norm)
                self._adam.step()
            self._n_updates += 1
        self._adam.end()
        last_epoch = losses[-(len(losses) // self.n_epochs) :]
        mean = Losses(*np.mean(losses, axis=0))
        if not np.isfinite(mean).all():
            raise RunFailed(DIVERGED)
        whole = losses[-1].policy + self.ent_coef * losses[-1].entropy
        buffer = self.rollout_buffer
        for key, value in (
            ("entropy_loss", mean.entropy),
            ("policy_gradient_loss", mean.policy),
            ("value_loss", mean.value),
            ("approx_kl", np.mean([loss.approx_kl for loss in last_epoch])),
            ("clip_fraction", mean.clip_fraction),
            ("loss", whole + self.vf_coef * losses[-1].value),
            (
                "explained_variance",
                explained_variance(buffer.values.ravel(), buffer.returns.ravel()),
            ),
            ("std", np.exp(networks.log_std).mean()),
            ("clip_range", clip_range),
        ):
            self.logger.record(f"train/{key}", float(value))
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "generator_state", "_networks", "_adam"]


def check_agent(config: AgentConfig, copies: int) -> None:
    """Refuse settings that do not fit one another.

    Args:
        config: Settings of PPO.
        copies: Environments that it acts in.

    Raises:
        UserError: Names the setting and what would do.
    """
    rollout = config.n_steps * copies
    if rollout % config.batch_size:
        raise UserError(
            f"agent.batch_size must divide one rollout of {rollout} steps, got {config.batch_size}"
        )
    if config.activation not in ACTIVATIONS:
        raise UserError(
            f"unknown activation '{config.activation}': {nearest(config.activation, ACTIVATIONS)}"
        )


def make_ppo(config: AgentConfig, venv: VecEnv, seed: int) -> PatientPPO:
    """PPO on `venv`, on the CPU, where small networks belong."""
    rate = config.learning_rate
    return PatientPPO(
        "MlpPolicy",
        venv,
        n_steps=config.n_steps,
        batch_size=config.batch_size,
        n_epochs=config.n_epochs,
        learning_rate=LinearSchedule(rate, 0.0, 1.0) if config.anneal else rate,
        gamma=config.gamma,
        gae_lambda=config.gae_lambda,
        clip_range=config.clip_range,
        ent_coef=config.ent_coef,
        vf_coef=config.vf_coef,
        max_grad_norm=config.max_grad_norm,
        use_sde=config.sde_sample_freq > 0,
        sde_sample_freq=config.sde_sample_freq,
        policy_kwargs={
            "net_arch": list(config.net_arch),
            "activation_fn": getattr(torch.nn, config.activation),
            "log_std_init": config.log_std_init,
            "ortho_init": config.ortho_init,
            # SB3's Adam in one kernel: an update of 128 steps takes 0.84 times as long.
            "optimizer_kwargs": {"eps": 1e-5, "fused": True},
        },
        stats_window_size=20,
        seed=seed,
        device="cpu",
    )
