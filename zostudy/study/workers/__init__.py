"""The workers of one command, and trials in processes of their own.

Public: `pool` (the pool) and `trial_process` (what runs in a trial's process).
"""
