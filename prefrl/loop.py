"""The loop: collect clips, select pairs, ask, fit the reward, let the agent optimise it.

It is one callback of SB3's, so that the agent runs from a single `learn()` and all its schedules
stay whole::

    recorder = ClipRecorder(venv)
    ensemble = RewardEnsemble(*recorder.dims)
    loop = PreferenceLoop(recorder, ensemble, LabelStore("labels.db"), Oracle(), schedule)
    PPO("MlpPolicy", LearnedReward(recorder, ensemble)).learn(100_000, callback=loop)
"""

from collections.abc import Callable
from functools import cached_property

import numpy as np
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.running_mean_std import RunningMeanStd
from stable_baselines3.common.vec_env import VecEnvWrapper

from prefrl.agent.reward_env import LearnedReward
from prefrl.clips.recorder import ClipRecorder
from prefrl.clock import Stopwatch
from prefrl.errors import RunFailed, UserError
from prefrl.labels.store import LabelStore
from prefrl.metrics import correlation
from prefrl.queries.rules import find_rule
from prefrl.queries.sampler import select_pairs
from prefrl.queries.schedule import LabelSchedule
from prefrl.reward.data import LabelledClips
from prefrl.reward.ensemble import RewardEnsemble
from prefrl.reward.fit import RewardFitter

Labeller = Callable[[LabelStore, int], None]
"""Answers what is pending in a store at the agent's step, or does nothing and lets others."""

REFIT_GROWTH = 0.02
"""Labels that have to arrive or change before a refit, as a share of those already learned from;
once the whole budget is answered, each is learned from."""


class PreferenceLoop(BaseCallback):
    """Learns a reward from labels while an SB3 on-policy algorithm learns from that reward.

    Args:
        recorder: Cuts the clips, below the learned reward.
        ensemble: Learns the reward, in place.
        store: Where queries go and labels come from.
        labeller: Called after every rollout, when what is due has been asked.
        schedule: How many labels are due when.
        rule: Which pairs are asked: a name in `prefrl.queries.rules.RULES`, or `FILE.py:FUNC`.
        candidates: Candidate pairs for each one asked.
        batch: Queries asked at once after the first batch.
        queue: Most pairs that lie with the labeller at a time; None where it answers them all
            in its call.
        fitter: Fits the ensemble.
        first_fit_steps, refit_steps: Gradient steps of the first fit and of later ones.
        learn_equal: Whether `equal` is trained on, as a preference of ½.
        scale_memory: Rollouts whose weight all earlier ones together have in VecNormalize's scale
            of returns; 0: that of the whole run.
        continues: Whether the store may hold what this very run has asked already.
        seed: Decides the bootstrap.
        rng: Draws candidates and orders.
        stopwatch: Counts the time of each stage.
    """

    def __init__(
        self,
        recorder: ClipRecorder,
        ensemble: RewardEnsemble,
        store: LabelStore,
        labeller: Labeller,
        schedule: LabelSchedule,
        *,
        rule: str = "mutual-information",
        candidates: int = 10,
        batch: int = 10,
        queue: int | None = None,
        fitter: RewardFitter | None = None,
        first_fit_steps: int = 200,
        refit_steps: int = 20,
        learn_equal: bool = True,
        scale_memory: int = 4,
        continues: bool = False,
        seed: int = 0,
        rng: np.random.Generator | None = None,
        stopwatch: Stopwatch | None = None,
    ) -> None:
        super().__init__()
        self.recorder = recorder
        self.ensemble = ensemble
        self.store = store
        self.schedule = schedule
        self.metrics: dict[str, float] = {"query/asked": 0, "label/answered": 0}
        """Latest values, by the keys of `prefrl.metrics`."""
        self._labeller = labeller
        self._rule = find_rule(rule, ensemble.members)
        self._rule_name = rule
        self._candidates = candidates
        self._batch = batch
        self._queue = queue
        self._fitter = fitter or RewardFitter(ensemble)
        self._fit_steps = (first_fit_steps, refit_steps)
        self._data = LabelledClips(
            store, members=ensemble.members, seed=seed, learn_equal=learn_equal
        )
        self._scale_memory = scale_memory
        self._unlearned = 0
        self._latest_answer = (0, 0)
        self._previous_step = 0
        self._diverged = False
        self._continues = continues
        self._rng = rng or np.random.default_rng(seed)
        self._stopwatch = stopwatch or Stopwatch()

    def _on_training_start(self) -> None:
        if self.store.count_asked() and not self._continues:
            raise UserError(
                f"the label store holds {self.store.count_asked()} queries that another run has "
                f"asked: give a new file (`LabelStore.take_over` copies the answers)"
            )
        self._check_agent()
        if self.num_timesteps < self._previous_step:
            raise UserError(
                "the agent's steps begin again at 0, but labels are due and dated by them: call "
                "`learn(..., reset_num_timesteps=False)` to go on"
            )
        self._continues = True  # a second `learn()` goes on
        self._previous_step = self.num_timesteps

    def _check_agent(self) -> None:
        """Whether the agent learns from the reward that is learned, on the clips recorded of it.

        Raises:
            UserError: It does not.
        """
        steps = getattr(self.model, "n_steps", None)
        if steps != self.recorder.rollout_steps:
            raise UserError(
                f"clips are cut at the end of each rollout: the agent must be on-policy and its "
                f"n_steps ({steps}) the recorder's rollout_steps ({self.recorder.rollout_steps})"
            )
        layer, above = self.model.get_env(), False
        while layer is not self.recorder and isinstance(layer, VecEnvWrapper):
            above |= isinstance(layer, LearnedReward)
            layer = layer.venv
        if layer is not self.recorder or not above:
            raise UserError(
                "the agent must act in LearnedReward(recorder, ensemble), or else it would learn "
                "from the environment's own reward"
            )

    def _on_rollout_start(self) -> None:
        # Not before: the rollout that ended with the first fit was rewarded with zeros.
        self.model.has_reward = self.ensemble.fitted  # type: ignore[attr-defined]

    def _on_step(self) -> bool:
        return True

    def _on_rollout_end(self) -> None:
        step = self.num_timesteps
        with self._stopwatch.stage("select"):
            pairs = self.select(step)
        with self._stopwatch.stage("label"):
            self.ask(pairs, step)
        with self._stopwatch.stage("fit"):
            self.fit(step)
        self._forget_early_rewards()
        self._previous_step = step

    def select(self, step: int) -> np.ndarray:
        """Choose the pairs that are due: `(n, 2)` indices into the recorder's buffer."""
        if self._taken_over and self.schedule.budget and self.ensemble.fits <= 1:
            self._use_up_known_clips(step)
        return select_pairs(
            self.recorder.buffer,
            self.ensemble,
            self._rule,
            self._wanted(step),
            candidates=self._candidates,
            rng=self._rng,
        )

    def _use_up_known_clips(self, step: int) -> None:
        """Of the clips just cut, leave out those that labels taken over are about.

        With the seed of the run that they come from, an untrained policy does the same again. It
        goes its own way once a learned reward has moved it, which is before the second fit.
        """
        buffer = self.recorder.buffer
        for index in buffer.fresh():
            if buffer.arrays["steps"][index] == step and self.store.has_taken_over(buffer[index]):
                buffer.take(index)

    def _wanted(self, step: int) -> int:
        """How many pairs to ask now; 0 until a batch is due."""
        # By the last rollout: a resumed run finds what it asked at this step in the store already,
        # and has to come by it again to be the same run; answers are still coming in.
        before = None if self._diverged else self._previous_step
        asked = self.store.count_asked(before)
        due = self.schedule.due(step) - asked
        room = self.recorder.room // 2
        batch = min(self._batch, self.schedule.budget - asked, room)
        if self._queue is not None:
            due = min(due, self._queue - self.store.count_pending(before))
            # People begin with whatever there is.
            batch = 1 if asked < self.schedule.first else min(batch, self._queue // 2)
        elif asked == 0:
            first = min(self.schedule.first, room)
            return due if len(self.recorder.buffer.fresh()) >= 2 * first else 0
        return due if due >= batch else 0

    def ask(self, pairs: np.ndarray, step: int) -> None:
        """Put pairs into the store and let the labeller at them."""
        if len(pairs):
            buffer = self.recorder.buffer
            age = step - buffer.arrays["steps"][pairs].mean()
            taken = [(buffer.take(left), buffer.take(right)) for left, right in pairs]
            self.store.ask_all(taken, step=step, rule=self._rule_name)
            self.metrics["query/clip_age"] = float(age)
        self._labeller(self.store, step)
        # Whoever labels, what is answered from here on, as in a review, is dated later, and read
        # after the next rollout; so it is when a run is resumed.
        self.store.note(step=step)
        self.metrics["query/asked"] = self.store.count_asked(step)

    def fit(self, step: int) -> None:
        """Fit the reward if enough labels are new, and bring its output to scale."""
        latest = self.store.latest_answer(step)
        if latest != self._latest_answer:
            self._latest_answer = latest
            self._unlearned += self._data.update(step)
            self.metrics["label/answered"] = self.store.count_answered(step)
        first = not self.ensemble.fitted
        if first:
            enough = self._data.standing.sum() >= self.schedule.enough
        elif self.metrics["label/answered"] - self._taken_over >= self.schedule.budget:
            enough = self._unlearned > 0
        else:
            known = len(self._data) - self._unlearned
            enough = self._unlearned >= max(1, REFIT_GROWTH * known)
        if not enough or not self._data.trainable or not len(self.recorder.buffer):
            return
        report = self._fitter.fit(self._data, self._fit_steps[0 if first else 1])
        self._normalise_outputs()
        members = self.ensemble.member_rewards(self.recorder.recent_inputs(1024))
        if not np.isfinite(members).all():
            raise RunFailed(
                "the learned reward is no longer a number: are all observations of the "
                "environment finite?"
            )
        self._unlearned = 0
        if first:
            self._forget_zeros()
        for key, values in (
            ("reward/training_loss", report.training_loss),
            ("reward/validation_loss", report.validation_loss),
            ("reward/validation_accuracy", report.validation_accuracy),
            ("reward/l2", report.l2),
        ):
            for member, value in enumerate(values):
                self.metrics[f"{key}/{member}"] = float(value)
        self.metrics["reward/disagreement"] = float(members.std(axis=0).mean())
        standing = self._data.preferences[self._data.standing]
        self.metrics["label/equal"] = float((standing == 0.5).mean())
        self.metrics["rollout/true_correlation"] = self._true_correlation()

    @cached_property
    def _taken_over(self) -> int:
        """Labels that the run began with, which are none of its budget."""
        return self.store.count_answered(0)

    def _normalise_outputs(self) -> None:
        """Bring the reward to scale on the clips of the first labels, a first batch of them.

        Once so many are learned from, they are the same at every refit.

        On what the agent does now, each refit would take the agent's progress out of the reward:
        what it does better than before would again be worth 0 on average, as if all that its
        critic has learned were wrong. With no budget of its own, the run has all its labels from
        the start, and they are the first batch.
        """
        first = self._data.inputs[: self.schedule.first or None]
        self.ensemble.normalise_outputs(first.reshape(-1, first.shape[-1]))

    def state_dict(self) -> dict:
        """What the loop remembers beside its parts and the store, in plain values."""
        return {"metrics": self.metrics, "new_labels": self._unlearned}

    def diverge(self) -> None:
        """Go on otherwise than before: no pair that was asked after this step will come again.

        So all that was asked counts towards the budget at once.
        """
        self._diverged = True

    def load_state_dict(self, state: dict, step: int) -> None:
        """Restore what `state_dict` gave at the agent's step `step`.

        Args:
            state: What to restore.
            step: The agent's step then.
        """
        self._data.catch_up(step)
        self._latest_answer = self.store.latest_answer(step)
        self._unlearned = state["new_labels"]
        nan = float("nan")
        self.metrics.update({k: nan if v is None else v for k, v in state["metrics"].items()})

    def _forget_zeros(self) -> None:
        """Drop the zeros, seen before the first fit, from VecNormalize's scale of returns."""
        normalise = self.model.get_vec_normalize_env()
        if normalise is not None:
            normalise.ret_rms = RunningMeanStd(shape=())

    def _forget_early_rewards(self) -> None:
        """Let VecNormalize's scale of returns follow the latest rollouts.

        It remembers every step of a run. Here that means rewards of ensembles long gone, the first
        of which are often far too generous; beside those, the returns of now would be too small
        for the critic to tell apart.
        """
        normalise = self.model.get_vec_normalize_env()
        if normalise is not None and self._scale_memory:
            scale = normalise.ret_rms
            scale.count = min(scale.count, self._scale_memory * self.recorder.rollout_size)

    def _true_correlation(self) -> float:
        """Pearson correlation of learned and true return over the latest clips."""
        buffer = self.recorder.buffer
        latest = buffer.latest(100)
        inputs = buffer.inputs(latest)
        learned = self.ensemble.rewards(inputs.reshape(-1, inputs.shape[-1]))
        return correlation(
            learned.reshape(inputs.shape[:2]).sum(axis=1),
            buffer.arrays["true_rewards"][latest].sum(axis=1),
        )
