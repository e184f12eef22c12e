"""Workers as an indexed Job of Kubernetes, with the study file in a ConfigMap beside it.

A worker whose trials have failed has ended for good (exit codes 1 and 2); one that was killed is
started again, and one that was moved off its node does not count as a failure.
"""

import json
from typing import Any

import yaml

from zostudy.errors import ConfigError
from zostudy.study.launch.job import GRACE, Job

#: How often each worker is started again after it was killed.
_RESTARTS = 10

#: Seconds that an ended job is kept, for its logs; until then the same one is not begun again.
_KEPT = 3600

_FOLDER = "/work"
_STUDY = "/etc/zostudy"


def manifest(job: Job) -> str:
    """The manifest that ``kubectl apply`` takes.

    Raises:
        ConfigError: No image is named.
    """
    if not job.cluster.image:
        raise ConfigError(
            "cluster.image: is missing; --on kubernetes needs a container image in which zostudy "
            "is installed"
        )
    labels = {"app.kubernetes.io/name": "zostudy", "zostudy/study": job.name}
    study = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": _named(job, labels)}
    study["data"] = {"study.yaml": json.dumps(job.file.document, indent=2)}  # JSON is YAML too
    spec = {
        "completions": job.workers,
        "parallelism": job.workers,
        "completionMode": "Indexed",
        "backoffLimitPerIndex": _RESTARTS,
        "ttlSecondsAfterFinished": _KEPT,
        "podFailurePolicy": {"rules": _rules()},
        "template": {"metadata": {"labels": labels}, "spec": _pod(job)},
    }
    workers = {"apiVersion": "batch/v1", "kind": "Job", "metadata": _named(job, labels)}
    return yaml.dump_all([study, {**workers, "spec": spec}], Dumper=_Readable, sort_keys=False)


class _Readable(yaml.SafeDumper):
    """Writes text of several lines as it is."""


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style)


_Readable.add_representer(str, _text)


def _named(job: Job, labels: dict[str, str]) -> dict[str, Any]:
    return {"name": job.name, "labels": dict(labels)}


def _rules() -> list[dict[str, Any]]:
    codes = {"containerName": "worker", "operator": "In", "values": [1, 2]}
    return [
        {"action": "FailIndex", "onExitCodes": codes},
        {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
    ]


def _pod(job: Job) -> dict[str, Any]:
    cluster = job.cluster
    folder = cluster.folder or _FOLDER
    shared = {"persistentVolumeClaim": {"claimName": cluster.volume}}
    pod: dict[str, Any] = {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": GRACE,
        "containers": [_container(job, folder)],
        "volumes": [
            {"name": "study", "configMap": {"name": job.name}},
            {"name": "folder", **(shared if cluster.volume else {"emptyDir": {}})},
        ],
    }
    return pod | ({"activeDeadlineSeconds": cluster.seconds - GRACE} if cluster.seconds else {})


def _container(job: Job, folder: str) -> dict[str, Any]:
    cluster = job.cluster
    memory, gpus = f"{job.mebibytes}Mi", {"nvidia.com/gpu": cluster.gpus} if cluster.gpus else {}
    environment = {
        "MLFLOW_TRACKING_URI": job.tracking,
        "OMP_NUM_THREADS": str(job.processors),
        "PYTHONPATH": folder,
    }
    container: dict[str, Any] = {
        "name": "worker",
        "image": cluster.image,
        "command": ["zostudy", "worker", f"{_STUDY}/study.yaml", *job.arguments],
        "workingDir": folder,
        "env": [{"name": name, "value": value} for name, value in environment.items()],
        "resources": {
            "requests": {"cpu": str(job.processors), "memory": memory},
            "limits": {"memory": memory, **gpus},
        },
        "volumeMounts": [
            {"name": "study", "mountPath": _STUDY, "readOnly": True},
            {"name": "folder", "mountPath": folder},
        ],
    }
    secret = [{"secretRef": {"name": cluster.secret}}] if cluster.secret else []
    return container | ({"envFrom": secret} if secret else {})
