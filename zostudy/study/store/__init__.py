"""Results of phases by the digest of what determines them, and the list of what is kept.

Public: `records` (records and checkpoints) and `listing` (what is kept, listed and cleared).
"""
