"""The workers of one command, and trials in processes of their own.

Public: `workers` (the pool) and `trial_process` (what runs in a trial's process).
"""
