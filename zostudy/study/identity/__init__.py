"""What the trials of a study are made of today: data, files, source code and device.

Public: `today` (all ingredients of a point), `data` (the digest of a data set without reading its
pictures again) and `source` (digests of source code).
"""
