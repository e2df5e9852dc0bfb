"""The names of the files that runs, searches and studies leave, each declared here alone."""

from pathlib import Path

OUTPUTS = Path("outputs")  # of all runs, relative to the directory in which a command is started

# of a run directory
CONFIG = Path("config", "config.yaml")
OVERRIDES = Path("config", "overrides.yaml")
DATASET = "dataset.json"  # name and checksum of the data
PROVENANCE = "provenance.json"
LOG = "train.log"
METRICS = "metrics.jsonl"
RECORD = "gradient_flow.parquet"
NONFINITE = "nonfinite.json"  # where the first NaN or infinity came from
EVALUATION = "evaluation.npz"  # what the figures need of the trained network
CHECKPOINTS = "checkpoints"
FIGURES = "figures"
REPORT = "report.html"
RESULT = "result.json"  # written last: the run is over
DELIVERY = "delivery.json"  # what waits for the tracking server
RUN_ID = "mlflow_run_id"

# of a search, a study and a multirun over seeds
STUDY = "study.json"
TRIALS = "trials.csv"
SEEDS = "seeds.csv"
