"""Which trials of a study are run next, and what came of them. Only this room uses Optuna.

Public: `worker` (a worker's loop), `work_units` (units of work) and `optuna_storage` (the Optuna
storage, opened and compared with the study file).
"""
