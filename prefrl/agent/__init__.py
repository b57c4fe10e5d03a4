"""The agent's side: environments, the learned reward in their place, PPO."""
