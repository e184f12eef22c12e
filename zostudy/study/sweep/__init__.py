"""Which trials of a study are run next, and what came of them. Only this room uses Optuna.

Public: `sweep` (a worker's loop), `units` (units of work) and `storage` (the Optuna storage opened
and compared with the study file).
"""
