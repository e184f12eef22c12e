"""How long a test waits for what must come."""

import time

#: Seconds. Many times what any wait takes on a slow and busy machine: reaching it means a hang.
PATIENCE = 600.0


def wait_for(condition, *processes):
    """Wait until a condition holds, which some processes must live to see."""
    until = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < until
        assert all(process.poll() is None for process in processes)
        time.sleep(0.02)
