"""The benchmark of the fit: real processes on few deals, and their ratio."""

import json

import pytest

from orchestration.lib.benchmark_fit import MODES, run_fit_benchmark, write_fit_report
from orchestration.lib.errors import UserError


def test_fit_benchmark__measures_each_mode_and_our_card_explains_as_much(tmp_path):
    said = []
    report = run_fit_benchmark(1500, 3, seed=1, progress=said.append)
    assert tuple(cost.mode for cost in report.costs) == MODES
    assert len(said) == len(MODES)
    assert all(cost.wall_seconds > cost.work_seconds > 0 for cost in report.costs)
    assert all(cost.peak_mib > 20 for cost in report.costs)
    losses = {cost.mode: cost.log_loss for cost in report.costs}
    assert losses["fit"] < losses["scikit_learn"] + 0.02
    assert report.ratio("fit", "work_seconds") > 0
    write_fit_report(report, tmp_path / "report.json")
    assert json.loads((tmp_path / "report.json").read_text())["deals"] == 1500


def test_fit_benchmark__a_process_that_fails_is_named():
    with pytest.raises(UserError, match="benchmark: fit ended with"):
        run_fit_benchmark(0, 3, seed=-1, progress=lambda text: None)
