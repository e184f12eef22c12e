"""Journals of trials delivered to MLflow. Only this room and the doctor use MLflow.

Public: `background` (the thread that delivers), `mlflow_store` (an experiment in an MLflow store),
`registry` (its registered models) and `ui` (MLflow's page).
"""
