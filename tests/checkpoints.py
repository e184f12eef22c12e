class MemoryCheckpoint:
    """A stage's checkpoint that lives as long as the test."""

    def __init__(self):
        self.state = None

    def load(self):
        return self.state

    def save(self, state):
        self.state = state
