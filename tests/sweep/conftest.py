"""Fixtures of the sweeps' tests."""

from conftest_sweep import database, mlflow_server, postgres_server, sweep

__all__ = ["database", "mlflow_server", "postgres_server", "sweep"]
