"""MLflow: one run and one registered version per fitted card, in a local SQLite store.

Belongs here: logging a card, its alias, loading it back. Does not: fitting, or which card scores (that is
a landed document; the registry is the record of the fits and may be lost without loss of scores).

The model that is logged is the card's JSON document with this module as its loader: no pickle, nothing to
trust, and an old version loads as long as its document's format is read.
"""

from __future__ import annotations

import json
import logging
import math
import os
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from ml.card import Card

REGISTERED_NAME = "account-scorecard"
CARD_FILE = "card.json"


class CardModel:
    """What MLflow loads: criteria in, points and win probability out."""

    def __init__(self, card: Card) -> None:
        self.card = card

    def predict(self, X: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """Columns total_points, win_probability, win_probability_low, win_probability_high; rows as in
        `X`.
        """
        total = self.card.total_points(X)
        p, low, high = self.card.win_probability(total)
        return pd.DataFrame(
            {
                "total_points": total,
                "win_probability": p,
                "win_probability_low": low,
                "win_probability_high": high,
            },
            index=X.index,
        )


def _load_pyfunc(data_path: str) -> CardModel:
    """MLflow's entry point for a model whose loader is this module."""
    path = Path(data_path)
    return CardModel(read_card(path / CARD_FILE if path.is_dir() else path))


def read_card(path: Path) -> Card:
    """The card of a JSON document on disk."""
    return Card.from_document(json.loads(path.read_text(encoding="utf-8")))


def tracking_uri(tracking_dir: Path) -> str:
    """Address of the store under `tracking_dir`, as MLflow takes it."""
    return f"sqlite:///{tracking_dir.resolve() / 'mlflow.db'}"


@contextmanager
def _store(tracking_dir: Path) -> Iterator[Any]:
    """MLflow pointed at the store; the process's own address is put back afterwards."""
    # Read when mlflow is first imported: no call leaves the machine.
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    os.environ["DO_NOT_TRACK"] = "1"
    # Else every version keeps a copy of the working directory's lock file.
    os.environ["MLFLOW_UV_AUTO_DETECT"] = "false"
    import mlflow

    tracking_dir.mkdir(parents=True, exist_ok=True)
    tracking_before, registry_before = mlflow.get_tracking_uri(), mlflow.get_registry_uri()
    # Setting an address also sets these, and clearing it leaves them: the next caller would find our store.
    variables_before = {name: os.environ.get(name) for name in ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI")}
    # A registry that follows the tracking address must go on following it: None, not today's address.
    registry_after = None if registry_before == tracking_before else registry_before
    logger = logging.getLogger("mlflow")
    level_before = logger.level
    logger.setLevel(logging.ERROR)  # its notes on environments and migrations say nothing to our users
    mlflow.set_tracking_uri(tracking_uri(tracking_dir))
    mlflow.set_registry_uri(tracking_uri(tracking_dir))
    try:
        yield mlflow
    finally:
        mlflow.set_tracking_uri(tracking_before)
        mlflow.set_registry_uri(registry_after)  # type: ignore[arg-type]
        for variable, value in variables_before.items():
            if value is None:
                os.environ.pop(variable, None)
            else:
                os.environ[variable] = value
        logger.setLevel(level_before)


def log_card(
    card: Card,
    *,
    tracking_dir: Path,
    name: str = REGISTERED_NAME,
    params: Mapping[str, Any] | None = None,
    tags: Mapping[str, str] | None = None,
) -> tuple[str, int]:
    """Log a card as a run and register it as the next version of `name`.

    The run holds the parameters, the figures on later deals (`card.auc`, `base_rate.log_loss`, ...), the
    verdict as a note and the document as the model.

    Returns
    -------
    run id, version (1, 2, ...).
    """
    with _store(tracking_dir) as mlflow:
        from mlflow.models import ModelSignature
        from mlflow.types import ColSpec, Schema

        client = mlflow.MlflowClient()
        experiment = client.get_experiment_by_name(name)
        if experiment is None:
            artifacts = (tracking_dir.resolve() / "artifacts").as_uri()
            experiment_id = client.create_experiment(name, artifact_location=artifacts)
        else:
            experiment_id = experiment.experiment_id
        signature = ModelSignature(
            inputs=Schema(
                [
                    ColSpec("double" if c.value_type == "number" else "string", c.name, required=False)
                    for c in card.criterion_bands()
                ]
            )
        )
        with (
            mlflow.start_run(experiment_id=experiment_id) as run,
            tempfile.TemporaryDirectory() as folder,
            warnings.catch_warnings(),
        ):
            path = Path(folder) / CARD_FILE
            path.write_text(json.dumps(card.to_document(), indent=1), encoding="utf-8")
            mlflow.log_params(
                {
                    "deal_count": card.deal_count,
                    "won_count": card.won_count,
                    "trust": round(card.trust, 6),
                    "belief_deals": card.belief_deals,
                    **(params or {}),
                }
            )
            mlflow.log_metrics(_metrics(card))
            mlflow.set_tags({"mlflow.note.content": "\n\n".join(card.verdict), **(tags or {})})
            warnings.filterwarnings("ignore", message=".*input example was not provided")
            info = mlflow.pyfunc.log_model(
                name="card",
                loader_module="ml.tracking",
                data_path=str(path),
                signature=signature,
                # Named here: MLflow would start a process that imports the model to find them out (5 s).
                pip_requirements=["numpy", "pandas"],
            )
            # By the client and not by log_model, which announces each version on the caller's terminal.
            if not client.search_registered_models(filter_string=f"name = '{name}'"):
                client.create_registered_model(name)
            registered = client.create_model_version(
                name, source=info.model_uri, run_id=run.info.run_id, model_id=info.model_id
            )
            return run.info.run_id, int(registered.version)


def _metrics(card: Card) -> dict[str, float]:
    """Figures on later deals by dotted name; those that could not be computed are left out."""
    groups = {"card": card.evaluation.get("card", {}), **card.evaluation.get("baselines", {})}
    metrics = {f"{group}.{key}": value for group, values in groups.items() for key, value in values.items()}
    metrics["win_rate"] = card.base_rate
    return {key: float(v) for key, v in metrics.items() if v is not None and math.isfinite(v)}


def set_alias(
    version: int,
    alias: Literal["champion", "challenger"],
    *,
    tracking_dir: Path,
    name: str = REGISTERED_NAME,
) -> None:
    """Point an alias at a version; it leaves the version that had it.

    Raises
    ------
    ValueError
        The alias is not one of the two.
    """
    if alias not in ("champion", "challenger"):
        raise ValueError(f"alias must be champion or challenger, got {alias!r}")
    with _store(tracking_dir) as mlflow:
        mlflow.MlflowClient().set_registered_model_alias(name, alias, str(version))


def load_card(reference: int | str, *, tracking_dir: Path, name: str = REGISTERED_NAME) -> Card:
    """The card of a version number or an alias, from the registry."""
    where = f"models:/{name}/{reference}" if isinstance(reference, int) else f"models:/{name}@{reference}"
    with _store(tracking_dir) as mlflow:
        folder = Path(mlflow.artifacts.download_artifacts(where))
        return read_card(next(folder.rglob(CARD_FILE)))
