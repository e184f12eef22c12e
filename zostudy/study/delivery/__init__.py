"""Journals of trials delivered to MLflow. Only this room and the doctor use MLflow.

Public: `background` (the thread that delivers), `mlflow_store` (an experiment in an MLflow store)
and `ui` (MLflow's page).
"""
