"""One trial: prune, search, evaluate, each found in the cache or computed, and tracked.

Public: `trial` (a whole trial) and `phases` (a phase, its key and its computation). It knows
neither Optuna nor MLflow.
"""
