"""A point mass that is pushed about on a plane: the smallest task to learn from preferences."""

from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
from gymnasium import spaces


class PointMassEnv(gym.Env[np.ndarray, np.ndarray]):
    """A mass on a plane, pushed by a force; it is best to sit still at the centre.

    ## Action space
    `Box(-1, 1, (2,), float32)`: force along x and y, N. The mass is 1 kg.

    ## Observation space
    `Box(-inf, inf, (4,), float32)`

    | num | observation | unit |
    | --- | --- | --- |
    | 0 | position along x | m |
    | 1 | position along y | m |
    | 2 | velocity along x | m/s |
    | 3 | velocity along y | m/s |

    One step is 0.1 s. Friction takes 2 N s/m. A wall at 1.5 m stops the mass.

    ## Reward
    Minus the distance to the centre, m; `info["distance"]` holds it too.

    ## Starting state
    Uniform on the circle of 1 m radius, at rest.

    ## Episode end
    Never terminates; truncates after 60 steps.

    ## Version history
    - v0: first version.
    """

    metadata: ClassVar[dict[str, Any]] = {"render_modes": ["rgb_array"], "render_fps": 10}

    DT = 0.1
    """s per step."""
    FRICTION = 2.0
    """N s/m."""
    WALL = 1.5
    """m from the centre."""

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
        angle = self.np_random.uniform(0, 2 * np.pi)
        self.state = np.array([np.cos(angle), np.sin(angle), 0.0, 0.0])
        return self.state.astype(np.float32), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        position, velocity = self.state[:2], self.state[2:]
        force = np.clip(action, -1.0, 1.0) - self.FRICTION * velocity
        velocity = velocity + self.DT * force
        moved = position + self.DT * velocity
        inside = np.clip(moved, -self.WALL, self.WALL)
        velocity = np.where(moved == inside, velocity, 0.0)
        self.state = np.concatenate([inside, velocity])
        distance = float(np.linalg.norm(inside))
        return self.state.astype(np.float32), -distance, False, False, {"distance": distance}

    def render(self) -> np.ndarray:  # type: ignore[override]
        """The plane from above, `(height, width, 3)` uint8: walls, centre and mass."""
        import pygame

        width, height = self._size
        scale = min(width, height) / 2 / (self.WALL + 0.2)
        surface = pygame.Surface(self._size)
        surface.fill((245, 245, 240))
        side = round(2 * self.WALL * scale)
        walls = pygame.Rect(0, 0, side, side)
        walls.center = (width // 2, height // 2)
        pygame.draw.rect(surface, (120, 120, 120), walls, 2)
        pygame.draw.circle(surface, (0, 114, 178), walls.center, max(2, round(0.08 * scale)), 2)
        x, y = self.state[:2] * scale
        place = (round(width / 2 + x), round(height / 2 - y))
        pygame.draw.circle(surface, (213, 94, 0), place, max(3, round(0.1 * scale)))
        return np.transpose(pygame.surfarray.array3d(surface), (1, 0, 2))
