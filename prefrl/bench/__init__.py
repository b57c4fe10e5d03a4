"""Benchmarks: suites of runs, their statistics and their pictures."""
