-- Optuna and MLflow cannot share one database: names of their tables clash.
CREATE DATABASE mlflow;
