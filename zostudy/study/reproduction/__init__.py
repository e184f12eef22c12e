"""Runs a trial again from what is recorded of it, and compares what comes of it.

Public: `recorded` (what a study or MLflow holds of a trial), `again` (runs it in a folder of its
own) and `comparison` (the first difference).
"""
