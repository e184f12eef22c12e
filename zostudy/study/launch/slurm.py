"""Workers as an array of Slurm's jobs.

Two minutes before the end of its time a worker gives its trial back at its last checkpoint, and
asks to be queued again. One that is preempted is queued again by Slurm itself.
"""

import shlex
import sys
from pathlib import Path

from zostudy.study.launch.job import GRACE, Job

_SCRIPT = """\
#!/bin/bash
{options}
set -u
cd {folder} || exit 2
export OMP_NUM_THREADS={processors} MLFLOW_TRACKING_URI={tracking}
again() {{
    trap - USR1 TERM
    kill -TERM "$worker"
    wait "$worker"
    scontrol requeue "${{SLURM_ARRAY_JOB_ID}}_${{SLURM_ARRAY_TASK_ID}}"
    exit 0
}}
ended() {{
    trap - USR1 TERM
    kill -TERM "$worker"
    wait "$worker"
    exit 143
}}
trap again USR1
trap ended TERM
{command} &
worker=$!
wait "$worker"
"""


def script(job: Job) -> str:
    """The script that ``sbatch`` takes."""
    cluster = job.cluster
    options = {
        "job-name": job.name,
        "array": f"0-{job.workers - 1}",
        "ntasks": "1",
        "cpus-per-task": str(job.processors),
        "mem": f"{job.mebibytes}M",
        "gres": f"gpu:{cluster.gpus}" if cluster.gpus else "",
        "time": _time(cluster.seconds),
        "signal": f"B:USR1@{GRACE}",
        "partition": cluster.partition,
        "open-mode": "append",
        "output": f"{job.name}-%A_%a.log",
    }
    lines = [f"#SBATCH --{name}={value}" for name, value in options.items() if value]
    command = [sys.executable, "-m", "zostudy", "worker", str(job.path.resolve()), *job.arguments]
    return _SCRIPT.format(
        options="\n".join([*lines, "#SBATCH --requeue"]),
        folder=shlex.quote(cluster.folder or str(Path.cwd())),
        processors=job.processors,
        tracking=shlex.quote(job.tracking),
        command=shlex.join(command),
    )


def _time(seconds: int) -> str:
    """A length of time as Slurm has it; empty for none."""
    minutes = -(-seconds // 60)
    return f"{minutes // 60}:{minutes % 60:02}:00" if seconds else ""
