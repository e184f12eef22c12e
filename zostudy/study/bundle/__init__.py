"""The deployment folder of a trained network.

Public: `trial_export` (that of a trial) and `export` (how a bundle is written).
"""
