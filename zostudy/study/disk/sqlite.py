"""What errors of SQLite mean, and what to do."""

import sqlite3

#: By a part of SQLite's own text.
_MEANINGS = {
    "database is locked": "another process has it locked; wait until that has ended, or stop it",
    "readonly database": "it may not be written; allow it for the file and its folder",
    "unable to open database file": "it cannot be opened or made; look at its folder's rights",
    "disk is full": "the disk is full; make room and run the same command again",
    "disk I/O error": "the disk is full or fails; make room and run the same command again",
    "file is not a database": "it is no SQLite file; choose another, or move it away",
    "disk image is malformed": "the file is damaged; bring back a copy, or move it away",
}


def meaning(error: BaseException) -> str:
    """What an error means, with what to do; empty where SQLite is not to blame.

    Args:
        error: What was raised, by SQLite or by who uses it.
    """
    text = str(error)
    if not isinstance(error, sqlite3.Error) and "sqlite3." not in text:
        return ""
    return next((said for part, said in _MEANINGS.items() if part in text), "")
