"""How long a test waits for what must come."""

import time

#: Seconds. Many times what any wait takes on a slow and busy machine: reaching it means a hang.
PATIENCE = 1200.0


def wait_for(condition):
    """Wait until a condition holds."""
    until = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.02)
