"""Every error that zostudy raises on purpose.

ZostudyError
├── InputError            the user's input is wrong: exit code 2, before any compute
│   ├── ConfigError       a study file, an override or a component's option
│   ├── DataError         a data set or a picture
│   └── ArchitectureError a mask or a genotype that does not fit its search space
└── TrialError            a trial cannot go on: fails that trial with its reason
    ├── NumericalError    a loss, a score or a kernel that is not finite
    ├── InadmissibleError no architecture that keeps to the limits was found
    ├── MemoryShortageError  a phase that needs more memory than there is
    ├── CrashError        its process crashed, with the phase that it was computing
    └── LostError         nothing that the trial did: tried again, a few times
"""


class ZostudyError(Exception):
    """Root of the tree; its text is one line: the place, the value and what is allowed."""


class InputError(ZostudyError):
    """The user's input is wrong."""


class ConfigError(InputError):
    """A study file, an override or a component's option is wrong."""


class DataError(InputError):
    """A data set is missing, damaged or too small."""


class ArchitectureError(InputError):
    """A mask or a genotype does not fit its search space."""


class TrialError(ZostudyError):
    """A trial cannot go on."""


class NumericalError(TrialError):
    """A loss, a score or a kernel is not finite."""


class InadmissibleError(TrialError):
    """No architecture that keeps to the limits was found."""


class MemoryShortageError(TrialError):
    """A phase needs more memory than there is, or than the budget allows."""


class CrashError(TrialError):
    """A trial's process crashed.

    Args:
        text: How, in one line.
        crash: The signal or the exit code that it ended with.
        phase: The phase that it was computing; empty where it had begun none.
    """

    def __init__(self, text: str, crash: str, phase: str) -> None:
        super().__init__(text)
        self.crash = crash
        self.phase = phase


class LostError(TrialError):
    """A trial's process was killed from outside; it may well succeed when it is tried again."""
