"""prefrl's own environments, registered on import as `prefrl/<Name>-v0`."""

import gymnasium as gym

gym.register(
    id="prefrl/PointMass-v0",
    entry_point=f"{__name__}.point_mass:PointMassEnv",
    max_episode_steps=60,
)

gym.register(
    id="prefrl/HopperBackflip-v0",
    entry_point=f"{__name__}.hopper_backflip:HopperBackflipEnv",
    max_episode_steps=300,
)

gym.register(
    id="prefrl/HalfCheetahOneLeg-v0",
    entry_point=f"{__name__}.half_cheetah_one_leg:HalfCheetahOneLegEnv",
    max_episode_steps=300,
)
