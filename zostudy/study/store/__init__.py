"""Results of phases by the digest of what determines them, and the list of what is kept.

Public: `store` (records and checkpoints) and `cache` (what is kept, listed and cleared).
"""
