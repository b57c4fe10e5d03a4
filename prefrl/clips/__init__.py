"""Clips: the arrays, the recorder that cuts them, the simulator states behind them, frames."""
