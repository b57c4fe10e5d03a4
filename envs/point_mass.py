"""A point mass that is pushed about on a plane: the smallest task to learn from preferences."""

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces


class PointMassEnv(gym.Env[np.ndarray, np.ndarray]):
    """A mass on a plane, pushed by a force; it is best to fly to the right, fast.

    ## Action space
    `Box(-1, 1, (2,), float32)`: force along x and y, N. The mass is 1 kg.

    ## Observation space
    `Box(-inf, inf, (4,), float32)`

    | num | observation | unit |
    | --- | --- | --- |
    | 0 | position along x, from -1 to 1; the plane begins again where it ends | m |
    | 1 | position along y, likewise | m |
    | 2 | velocity along x | m/s |
    | 3 | velocity along y | m/s |

    One step is 0.1 s. Friction takes 2 N s/m, so no speed above 0.5 m/s lasts.

    ## Reward
    The velocity along x, m/s; `info["x_velocity"]` and `info["y_velocity"]` hold both. Full
    force to the right is best: it gives 28.0 in an episode (`BEST_RETURN`), from rest.

    ## Starting state
    Uniform on the plane, at rest.

    ## Episode end
    Never terminates; truncates after 60 steps.

    ## Version history
    - v0: first version.
    """

    metadata: dict[str, Any] = {  # noqa: RUF012
        "render_modes": ["rgb_array"],
        "render_fps": 10,
        "fixed_horizon": True,
        "drawn_from_state": True,
    }

    DT = 0.1
    """s per step."""
    FRICTION = 2.0
    """N s/m."""
    EDGE = 1.0
    """m from the centre to where the plane begins again."""
    BEST_RETURN = sum(0.5 * (1 - 0.8**t) for t in range(1, 61))
    """Of 60 steps: under a force of 1 N, v = 0.5 m/s (1 - 0.8^t) after t steps from rest."""

    def __init__(self, render_mode: str | None = None, width: int = 240, height: int = 240) -> None:
        self.render_mode = render_mode
        self._size = (width, height)
        self.action_space = spaces.Box(-1.0, 1.0, (2,), np.float32)
        self.observation_space = spaces.Box(-np.inf, np.inf, (4,), np.float32)
        self.state = np.zeros(4)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        self.state = np.concatenate([self.np_random.uniform(-self.EDGE, self.EDGE, 2), np.zeros(2)])
        return self.state.astype(np.float32), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        position, velocity = self.state[:2], self.state[2:]
        force = np.clip(action, -1.0, 1.0) - self.FRICTION * velocity
        velocity = velocity + self.DT * force
        position = (position + self.DT * velocity + self.EDGE) % (2 * self.EDGE) - self.EDGE
        self.state = np.concatenate([position, velocity])
        x, y = (float(v) for v in velocity)
        info = {"x_velocity": x, "y_velocity": y}
        return self.state.astype(np.float32), x, False, False, info

    def render(self) -> np.ndarray:
        """The plane from above, `(height, width, 3)` uint8; a line shows the velocity."""
        import pygame

        width, height = self._size
        scale = min(width, height) / 2 / self.EDGE
        surface = pygame.Surface(self._size)
        surface.fill((245, 245, 240))
        x, y, vx, vy = self.state * scale
        place = (round(width / 2 + x), round(height / 2 - y))
        ahead = (round(place[0] + vx), round(place[1] - vy))
        pygame.draw.line(surface, (0, 114, 178), place, ahead, max(2, round(0.04 * scale)))
        pygame.draw.circle(surface, (213, 94, 0), place, max(3, round(0.1 * scale)))
        return np.transpose(pygame.surfarray.array3d(surface), (1, 0, 2))
