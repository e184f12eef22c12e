"""A tracker whose journals are delivered when a trial ends, and what MLflow then has."""

import contextlib

from zostudy.study.delivery.background import Delivery
from zostudy.study.delivery.mlflow_store import MlflowStore
from zostudy.study.tracking.runs import Tracker


class Tracked:
    def __init__(self, root, uri, experiment):
        self.store = MlflowStore(uri, experiment)
        self.client = self.store.client
        self.tracker = Tracker(root, uri, experiment)
        self.delivery = Delivery(root, uri, experiment)

    @contextlib.contextmanager
    def trial(self, name, key, params=None, tags=None):
        try:
            with self.tracker.trial(name, key, params or {}, tags or {}) as run:
                yield run
        finally:
            self.delivery.once()

    def get(self, run):
        """MLflow's run of one that was written."""
        return self.client.get_run(run.mlflow_id)

    def status(self, run):
        return self.get(run).info.status

    def runs(self, *conditions):
        return self.store.search(*conditions)

    def histories(self, run):
        """Steps and values of every figure of MLflow's run."""
        run_id = run.info.run_id
        return {
            name: [(p.step, p.value) for p in self.client.get_metric_history(run_id, name)]
            for name in run.data.metrics
        }

    def artifacts(self, run, path=None):
        return sorted(entry.path for entry in self.client.list_artifacts(run.mlflow_id, path))
