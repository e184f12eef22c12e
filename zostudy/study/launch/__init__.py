"""Starts workers on a cluster: ``zostudy run --on``.

Public: `job` (what an engine is given) and `engines` (the engines by name).
"""
