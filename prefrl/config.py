"""The whole configuration of a run: one tree of frozen dataclasses, and what they allow.

`prefrl.configfile` makes it from presets, YAML and arguments.
"""

from dataclasses import dataclass, field
from typing import Any

from prefrl.errors import UserError, nearest

MOST_STEPS = 10**10
"""That a run can be asked for."""


@dataclass(frozen=True)
class EnvConfig:
    """The environment and how many copies of it the agent acts in."""

    id: str = ""
    """Gymnasium id; `module:Id-v0` imports `module` first."""
    copies: int = 8
    """Environments that the agent acts in side by side."""
    backend: str = "gymnasium"
    """`gymnasium` steps the copies in turn, in this process; `envpool` in threads, without exact
    resumes, where EnvPool has the environment (`pip install 'prefrl[envpool]'`)."""
    threads: int = 0
    """Of EnvPool; 0: one for each core that the process may use."""
    kwargs: dict[str, Any] = field(default_factory=dict)
    """Arguments for `gymnasium.make`."""
    restart_every: int = 0
    """Steps after which every second copy begins a new episode; 0: at the time limit, as the others
    do. With no end to tell it apart, a robot that has fallen lies on the ground for most of its
    training. Scores, and returns while training, are of whole episodes alone."""
    termination: str = "refuse"
    """What to do where an episode can end early, which tells the agent about the task:
    `refuse` it, `ignore` the signal and act on to the time limit, or `allow` it."""


@dataclass(frozen=True)
class AgentConfig:
    """SB3 PPO. The defaults are bold settings that learn fast on MuJoCo's locomotion tasks."""

    n_steps: int = 256
    """Steps per environment in one rollout."""
    batch_size: int = 128
    n_epochs: int = 10
    learning_rate: float = 3e-4
    """Falls linearly to zero over the run if `anneal`."""
    anneal: bool = True
    gamma: float = 0.99
    gae_lambda: float = 0.95
    clip_range: float = 0.2
    ent_coef: float = 0.0
    vf_coef: float = 0.5
    max_grad_norm: float = 0.5
    net_arch: tuple[int, ...] = (64, 64)
    activation: str = "ReLU"
    """A name in `prefrl.agent.ppo.ACTIVATIONS`, of a class in `torch.nn`. ReLU and Tanh are fast:
    with others, SB3's own update is taken (`prefrl.agent.actor_critic`)."""
    log_std_init: float = -1.0
    """Natural logarithm of the first action noise's standard deviation (Box actions)."""
    sde_sample_freq: int = 0
    """Steps for which one draw of state-dependent exploration holds (gSDE, Raffin et al. 2021;
    Box actions); 0: action noise that is drawn anew at each step."""
    ortho_init: bool = False


@dataclass(frozen=True)
class ClipConfig:
    """The clips that are cut from rollouts."""

    length: int = 50
    """Environment steps in one clip."""
    capacity: int = 1000
    """Latest clips kept to choose from; bounds memory, and keeps queries near the policy."""


@dataclass(frozen=True)
class QueryConfig:
    """Which pairs of clips are asked about."""

    rule: str = "mutual-information"
    """A name in `prefrl.queries.rules.RULES`, or `FILE.py:FUNC` that scores pairs."""
    candidates: int = 10
    """Candidate pairs looked at for each query asked (Christiano et al. 2017, appendix A)."""
    batch: int = 0
    """Queries asked at once, at least, after the first batch; 0: one fortieth of the budget."""


@dataclass(frozen=True)
class LabelConfig:
    """How many labels, when, and from whom."""

    budget: int = 700
    """Labels to ask for; a skip counts."""
    labeller: str = "oracle"
    """`oracle`, `human` at the window, or `none` to train on `source` alone."""
    question: str = "Which one is better?"
    """What a person is asked about each pair; say what to do where they are unsure."""
    wait: bool = False
    """Train only as far as the labels that a person has given allow."""
    probes: float = 0.1
    """Share of a person's pairs that repeat an earlier one, sides swapped, beside the budget."""
    teacher: str = "oracle"
    """How the scripted teacher errs: a name in `prefrl.labellers.teachers.TEACHERS`, knobs
    (`mistake=0.2,skip=0.1`), or both."""
    oracle: str = ""
    """`FILE.py:FUNC` that scores a clip instead of the environment's reward."""
    source: str = ""
    """A finished `labels.db` whose labels are taken over at the start."""
    initial: float = 0.25
    """Share of the budget, at least, that the untrained policy gets (Christiano et al. 2017):
    all that is due once there are clips enough, and PPO's first update comes a rollout later."""
    decay: float = 0.5
    """The label rate falls as 1 / (1 + decay * progress), where progress is 1 at `until`; 0: a
    constant rate. That of Christiano et al. 2017 at step T, 2e6 / (T + 2e6), is 0.2 for `until` at
    step 400,000."""
    until: float = 0.4
    """Share of the steps by which the whole budget is asked: early, while most is decided."""


@dataclass(frozen=True)
class RewardConfig:
    """The reward ensemble and its fit."""

    members: int = 3
    """Networks in the ensemble (Christiano et al. 2017: 3)."""
    hidden: tuple[int, ...] = (64, 64)
    """Widths of the hidden layers, leaky ReLU(0.01)."""
    linear_path: bool = False
    """Whether each network has a linear path from input to reward beside its hidden layers: good
    where what is wanted is close to linear in observations, as speed is."""
    squares: bool = False
    """Whether networks see the square of each input's distance from its mean, too: good where
    effort counts, or how far something is from where it is wanted."""
    learning_rate: float = 1e-3
    batch_size: int = 32
    """Labels in one gradient step of each member."""
    first_fit_steps: int = 200
    """Gradient steps of the first fit."""
    refit_steps: int = 20
    """Gradient steps of each later, warm-started fit."""
    error_rate: float = 0.1
    """Share of answers taken to be uniformly random (Christiano et al. 2017, section 2.2.3)."""
    learn_equal: bool = True
    """Whether `equal` is trained on, as a preference of ½; if not, it is left out like a skip."""
    scale_memory: int = 4
    """Rollouts whose weight all earlier ones together have in the scale of returns (VecNormalize);
    0: the scale is that of the whole run."""


@dataclass(frozen=True)
class RunConfig:
    """How long, from which seed, and how often the run is saved."""

    steps: int = 1_000_000
    """Environment steps, over all copies."""
    seed: int = 0
    true_reward: bool = False
    """Train on the environment's own reward: the ceiling, and the reference for speed."""
    checkpoint_every: int = 50_000
    """Environment steps between checkpoints."""
    evaluation_episodes: int = 20
    """Deterministic episodes of the final policy behind `result`."""


@dataclass(frozen=True)
class Config:
    """Everything that decides a run."""

    env: EnvConfig = EnvConfig()
    agent: AgentConfig = AgentConfig()
    clips: ClipConfig = ClipConfig()
    query: QueryConfig = QueryConfig()
    labels: LabelConfig = LabelConfig()
    reward: RewardConfig = RewardConfig()
    run: RunConfig = RunConfig()

    @property
    def rollout_steps(self) -> int:
        """Environment steps in one rollout, over all copies."""
        return self.env.copies * self.agent.n_steps

    @property
    def watched(self) -> bool:
        """Whether a person answers at a window."""
        return self.labels.labeller == "human" and not self.run.true_reward


def check_config(config: Config) -> None:
    """Refuse values that cannot work together.

    Raises:
        UserError: One sentence that names the value and what would do.
    """
    asks = not config.run.true_reward
    agent, reward, inf = config.agent, config.reward, float("inf")
    for name, value, low, high in (
        ("steps", config.run.steps, 1, MOST_STEPS),
        ("labels", config.labels.budget, 1 if asks else -inf, inf),
        ("seed", config.run.seed, 0, inf),
        ("run.checkpoint_every", config.run.checkpoint_every, 1, inf),
        ("run.evaluation_episodes", config.run.evaluation_episodes, 1, inf),
        ("env.copies", config.env.copies, 1, inf),
        ("env.threads", config.env.threads, 0, inf),
        ("env.restart_every", config.env.restart_every, 0, inf),
        ("agent.n_steps", agent.n_steps, 1, inf),
        ("agent.batch_size", agent.batch_size, 2, inf),
        ("agent.n_epochs", agent.n_epochs, 1, inf),
        ("agent.learning_rate", agent.learning_rate, 0, 1),
        ("agent.gamma", agent.gamma, 0, 1),
        ("agent.gae_lambda", agent.gae_lambda, 0, 1),
        ("agent.clip_range", agent.clip_range, 0, 10),
        ("agent.ent_coef", agent.ent_coef, 0, inf),
        ("agent.vf_coef", agent.vf_coef, 0, inf),
        ("agent.max_grad_norm", agent.max_grad_norm, 0, inf),
        ("agent.log_std_init", agent.log_std_init, -10, 10),
        ("agent.sde_sample_freq", agent.sde_sample_freq, 0, inf),
        *((f"agent.net_arch[{i}]", width, 1, inf) for i, width in enumerate(agent.net_arch)),
        ("clips.length", config.clips.length, 1, inf),
        ("clips.capacity", config.clips.capacity, 2, inf),
        ("query.candidates", config.query.candidates, 1, inf),
        ("query.batch", config.query.batch, 0, inf),
        ("labels.initial", config.labels.initial, 0, 1),
        ("labels.until", config.labels.until, 1e-3, 1),
        ("labels.decay", config.labels.decay, 0, inf),
        ("labels.probes", config.labels.probes, 0, 0.5),
        ("reward.members", reward.members, 1, inf),
        *((f"reward.hidden[{i}]", width, 1, inf) for i, width in enumerate(reward.hidden)),
        ("reward.learning_rate", reward.learning_rate, 0, 1),
        ("reward.batch_size", reward.batch_size, 1, inf),
        ("reward.first_fit_steps", reward.first_fit_steps, 1, inf),
        ("reward.refit_steps", reward.refit_steps, 1, inf),
        ("reward.error_rate", reward.error_rate, 0, 0.999),
        ("reward.scale_memory", reward.scale_memory, 0, inf),
    ):
        if value == inf or not low <= value <= high:  # not so for NaN either
            bounds = f"at least {low:g}" if high == inf else f"from {low:g} to {high:g}"
            if value == inf == high:
                bounds = "finite"
            raise UserError(f"{name} must be {bounds}, got {value}")
    for name, word, allowed in (
        ("env.backend", config.env.backend, ["gymnasium", "envpool"]),
        ("env.termination", config.env.termination, ["refuse", "ignore", "allow"]),
        ("labels.labeller", config.labels.labeller, ["oracle", "human", "none"]),
    ):
        if word not in allowed:
            raise UserError(f"unknown {name} '{word}': {nearest(word, allowed)}")
    if not asks:
        return
    if config.labels.wait and config.labels.labeller != "human":
        raise UserError(
            f"labeller '{config.labels.labeller}' is not waited for: --wait-for-labels needs "
            f"--labeller human"
        )
    question = "".join(config.labels.question.split())
    if not question or not question.isprintable():
        raise UserError("the question to ask must be a line of text: say which clip is better")
    if config.agent.n_steps < config.clips.length:
        raise UserError(
            f"agent.n_steps is {config.agent.n_steps}, shorter than one clip of "
            f"{config.clips.length} steps: clips are cut from single rollouts"
        )
    if config.labels.labeller == "none" and not config.labels.source:
        raise UserError("without a labeller there is nothing to learn from: add --labels-from DB")
