"""What a study will need before it runs: peak memory, steps, and which limits it would break.

Public: `plan` (all points of a study), `peak_memory` (one phase) and `constraints` (limits of a
sweep).
"""
