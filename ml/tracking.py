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
from pathlib import Path, PurePosixPath
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
    artifacts: Mapping[str, bytes] | None = None,
) -> tuple[str, int]:
    """Log a card as a run and register it as the next version of `name`.

    The run holds the parameters, the figures on later deals (`card.auc`, `base_rate.log_loss`, ...; see `figures_of`),
    the verdict as a note, the document as the model and whatever `artifacts` holds.

    Parameters
    ----------
    params : logged beside those of the card; a text of more than 6,000 characters is refused by MLflow.
    artifacts : path within the run, such as ``"model_card.html"`` or ``"plots/gains.svg"`` -> content.

    Returns
    -------
    run id, version (1, 2, ...).

    Raises
    ------
    ValueError
        An artifact's path is absolute or leaves the run.
    """
    for path_in_run in artifacts or {}:
        pure = PurePosixPath(path_in_run)
        if pure.is_absolute() or ".." in pure.parts or not pure.name:
            raise ValueError(f"artifact: its path must stay within the run, got {path_in_run!r}")
    with _store(tracking_dir) as mlflow:
        from mlflow.models import ModelSignature
        from mlflow.types import ColSpec, Schema

        client = mlflow.MlflowClient()
        experiment = client.get_experiment_by_name(name)
        if experiment is None:
            location = (tracking_dir.resolve() / "artifacts").as_uri()
            experiment_id = client.create_experiment(name, artifact_location=location)
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
            mlflow.log_params({**_params(card), **(params or {})})
            mlflow.log_metrics(figures_of(card))
            for path_in_run, content in (artifacts or {}).items():
                pure = PurePosixPath(path_in_run)
                local = Path(folder) / "artifacts" / pure.name
                local.parent.mkdir(exist_ok=True)
                local.write_bytes(content)
                mlflow.log_artifact(str(local), None if str(pure.parent) == "." else str(pure.parent))
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


def _params(card: Card) -> dict[str, Any]:
    """What the fit chose or was given, as MLflow's parameters."""
    leaks = card.evaluation.get("leaks", [])
    return {
        "deal_count": card.deal_count,
        "won_count": card.won_count,
        "trust": round(card.trust, 6),
        "belief_deals": card.belief_deals,
        "criterion_count": len(card.criteria),
        "band_count": sum(band.segment == "" for band in card.bands),
        "pair_count": len(card.pairs),
        "segment_by": card.segment_by or "",
        "segment_count": len(card.segments) - 1 if card.bands else 0,
        "pin_count": len(card.choices.pins),
        "calibration": card.calibration.method,
        "leaks_left_out": ", ".join(sorted({leak["criterion"] for leak in leaks if leak["is_left_out"]}))[:6000],
        "signal": card.evaluation.get("signal", "unknown"),
    }


def figures_of(card: Card) -> dict[str, float]:
    """All figures of a card's evaluation by dotted name, as MLflow's metrics; what could not be computed is left out.

    `card.<figure>` and `<baseline>.<figure>` of the final test, `card.<figure>_low` and `_high`,
    `gain_over_<baseline>_low` and `_high`, the same under `origins.` for the mean over the rolling origins,
    `rounding.<figure>`, `win_rate`, and how many criteria are `significant_criteria`.
    """
    evaluation = card.evaluation
    metrics: dict[str, Any] = {"win_rate": card.base_rate}
    for prefix, part in (("", evaluation), ("origins.", evaluation.get("origins_mean", {}))):
        groups = {"card": part.get("card", {}), **part.get("baselines", {})}
        for group, values in groups.items():
            metrics |= {f"{prefix}{group}.{key}": value for key, value in values.items() if not isinstance(value, dict)}
        for key, interval in (part.get("intervals") or {}).items():
            name = f"{prefix}{key}" if key.startswith("gain_over_") else f"{prefix}card.{key}"
            metrics |= {f"{name}_low": interval[0], f"{name}_high": interval[1]} if interval else {}
    metrics |= {f"rounding.{key}": value for key, value in evaluation.get("rounding", {}).items()}
    if "criteria" in evaluation:
        metrics["significant_criteria"] = sum(bool(entry["is_significant"]) for entry in evaluation["criteria"])
    return {key: float(value) for key, value in metrics.items() if value is not None and math.isfinite(value)}


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
