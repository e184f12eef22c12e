"""The engines that start workers, by the names that ``--on`` takes."""

import shutil
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from zostudy.errors import ConfigError, ZostudyError
from zostudy.options import nearest
from zostudy.study.launch import kubernetes, slurm
from zostudy.study.launch.job import Job

#: Seconds that a cluster has to take a job.
_PATIENCE = 120


@dataclass(frozen=True)
class Engine:
    """How workers are started.

    Attributes:
        name: The word for it.
        text: What the cluster is told.
        command: The program that tells it, which reads from standard input.
    """

    name: str
    text: Callable[[Job], str]
    command: Sequence[str]

    def submit(self, job: Job) -> str:
        """Start the workers; what the cluster answers, in one line.

        Raises:
            ConfigError: The program is not here, or something that it needs is missing.
            ZostudyError: The cluster refuses, or does not answer.
        """
        text, program = self.text(job), self.command[0]
        if shutil.which(program) is None:
            raise ConfigError(
                f"--on {self.name}: the command {program!r} is not here; run it where it is, or "
                "give it what --dry-run prints"
            )
        try:
            done = subprocess.run(
                self.command,
                input=text,
                capture_output=True,
                text=True,
                timeout=_PATIENCE,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise ZostudyError(
                f"--on {self.name}: {program} has not answered for {_PATIENCE} s; whether it has "
                "taken the job is not known"
            ) from error
        if done.returncode:
            why = "; ".join(done.stderr.split("\n")).strip("; ") or f"exit code {done.returncode}"
            raise ZostudyError(f"--on {self.name}: {program} refuses: {why}")
        return "; ".join(done.stdout.strip().split("\n"))


ENGINES = {
    engine.name: engine
    for engine in (
        Engine("slurm", slurm.script, ("sbatch",)),
        Engine("kubernetes", kubernetes.manifest, ("kubectl", "apply", "--filename=-")),
    )
}


def engine(name: str) -> Engine:
    """The engine of that name.

    Raises:
        ConfigError: There is none.
    """
    if name not in ENGINES:
        known = ["local", *ENGINES]
        hint = nearest(name, known) or f"; allowed: {', '.join(known)}"
        raise ConfigError(f"--on: unknown engine {name!r}{hint}")
    return ENGINES[name]
