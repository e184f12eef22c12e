"""Which paths a file system takes at all, whether or not something is there."""

#: Bytes of the longest name and of the longest path.
_LONGEST_NAME, _LONGEST_PATH = 255, 4095

#: What a path may be, in words.
PATH_ALLOWED = (
    f"a path in one line, at most {_LONGEST_NAME} bytes between slashes and {_LONGEST_PATH} in all"
)


def path_problem(path: str) -> str:
    """Why no file system takes a path; empty where one does."""
    if not path.isprintable() and any(ord(character) < 32 for character in path):
        return "holds a line break or another control character"
    parts = [part.encode("utf-8", "surrogateescape") for part in path.split("/")]
    if max(map(len, parts)) > _LONGEST_NAME or sum(map(len, parts)) + len(parts) > _LONGEST_PATH:
        return "is too long"
    return ""
