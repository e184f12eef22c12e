"""Studies: a plan, trials, a sweep over them, tracking, results and export.

Each package here is a room with one purpose; the first file of each names its public modules.
Imports go down only: docs/ARCHITECTURE.md has the order, and `pyproject.toml` the contracts that
hold it.
"""
