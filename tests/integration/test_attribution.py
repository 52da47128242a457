"""Explanations of a trained run: gradients, levels, and the sanity check with random weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import edgeseg
from edgeseg.core.errors import ModelFileError, RunError
from edgeseg.core.modelfile import read_model
from edgeseg.core.stats import rank_correlation
from edgeseg.explanation.occlusion import mask_randomly, occlude
from edgeseg.explanation.targets import Map, Probe, Target, choose_targets
from edgeseg.inference.segmenter import Segmenter
from tests.discs import draw_case

pytestmark = pytest.mark.integration
# Largest rank correlation, up to its sign, of a map with that of a network of random weights; chance gives about 0.1
# between maps so smooth.
LIMIT = 0.6


def open_probe(run: Path, seed: int = 101) -> tuple[Probe, tuple[Target, ...]]:
    """Open a frame that the run has not seen."""
    probe = Probe(Segmenter(read_model(run / "model.tflite"), "cpu"), draw_case(seed)[0])
    return probe, choose_targets(probe)


def load(run: Path) -> Any:
    from edgeseg.training.run import read_run
    from edgeseg.training.start import load_network

    return load_network(run, read_run(run))


def make_random(run: Path, seed: int) -> Any:
    """Build the run's network with weights that nothing was learned by."""
    from edgeseg.model.keras import keras
    from edgeseg.model.unet import build_unet
    from edgeseg.training.run import read_run

    keras.utils.set_random_seed(seed)
    return build_unet(read_run(run).spec)


class KerasBackend:
    """Runs a Keras network in the place of a backend."""

    def __init__(self, network: Any) -> None:
        from edgeseg.model.keras import tf

        # traced: eagerly every inference would take thirty times as long
        self._run = tf.function(lambda tensor: network(tensor, training=False))

    def invoke(self, tensor: NDArray[Any]) -> tuple[NDArray[Any], ...]:
        results = self._run(tensor)
        return tuple(one.numpy() for one in (results if isinstance(results, (list, tuple)) else [results]))


def correlate(one: Map, other: Map) -> float:
    return float(rank_correlation(one.ravel().tolist(), other.ravel().tolist())(np.ones(one.size)))


@pytest.mark.parametrize("name", ["grad-cam", "gradients", "rise", "occlusion"])
def test_a_network_with_random_weights_is_explained_otherwise(
    trained_run: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Adebayo et al., "Sanity checks for saliency maps", NeurIPS 2018: a map that does not change shows the image alone
    from edgeseg.explanation import occlusion
    from edgeseg.model.attribution import integrate_gradients, seg_grad_cam

    monkeypatch.setattr(occlusion, "MASKS", 150)
    monkeypatch.setattr(occlusion, "PATCHES", (8, 16))
    by_gradients: dict[str, Any] = {"grad-cam": seg_grad_cam, "gradients": integrate_gradients}
    by_covering = {"rise": mask_randomly, "occlusion": occlude}

    def explain(network: Any) -> Map:
        probe, targets = open_probe(trained_run)
        if name in by_gradients:
            (found,) = by_gradients[name](network, probe, targets)
            return np.asarray(found)
        monkeypatch.setattr(probe, "_backend", KerasBackend(network))
        return by_covering[name](probe, targets)[0]

    trained = explain(load(trained_run))
    assert correlate(trained, explain(load(trained_run))) > 0.99
    randomised = [correlate(trained, explain(make_random(trained_run, seed))) for seed in range(3)]
    assert abs(float(np.mean(randomised))) < LIMIT, randomised


@pytest.mark.parametrize("method", ["gradients", "grad-cam", "auto"])
def test_a_run_is_explained_by_its_gradients(trained_run: Path, method: str) -> None:
    frame, mask = draw_case(102)
    (reason,) = edgeseg.explain(trained_run, frame, method=method).reasons
    assert reason.method in (method, "rise", "gradients")
    assert np.isfinite(reason.map).all()
    if method == "grad-cam":  # on so few images it may be anywhere, which is what its figures are for
        return
    y, x = np.unravel_index(reason.map.argmax(), reason.map.shape)
    rows, columns = np.nonzero(mask)
    scale = mask.shape[1] / reason.map.shape[1]
    assert np.hypot(y * scale - rows.mean(), x * scale - columns.mean()) < 25


def test_the_differentiable_score_is_that_of_the_device(trained_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from edgeseg.model.attribution import _list, _score, _to_input

    probe, targets = open_probe(trained_run)
    monkeypatch.setattr(probe, "_temperatures", ())
    outputs = _list(load(trained_run)(_to_input(probe.grid), training=False))
    asked = probe.ask(np.ones((1, 1), np.float32), targets)[0]
    assert float(_score(targets[0], outputs, probe)) == pytest.approx(asked, abs=0.01)


def test_levels_of_a_run_are_left_out_one_by_one(trained_run: Path) -> None:
    (reason,) = edgeseg.explain(trained_run, draw_case(103)[0]).reasons
    assert reason.levels[-1].name == "deepest"
    sizes = [level.height for level in reason.levels]
    assert sizes == sorted(sizes, reverse=True)
    assert max(level.score_drop for level in reason.levels) > 0.02
    assert all(0 <= level.dice <= 1 for level in reason.levels)


def test_a_level_that_is_its_average_already_costs_nothing(trained_run: Path) -> None:
    from edgeseg.model.attribution import find_levels, measure_levels
    from edgeseg.model.keras import keras

    network = load(trained_run)
    probe, targets = open_probe(trained_run)
    ends = [network.get_layer(name).output for name in find_levels(network)]
    features = keras.Model(network.input, ends)(probe.grid[None].astype(np.float32) / 255)
    effects = measure_levels(network, [feature.numpy() for feature in features], probe, targets)[0]
    assert [(abs(effect.score_drop) < 1e-4, effect.dice) for effect in effects] == [(True, 1.0)] * len(effects)


def test_an_int8_file_is_explained_like_its_run(int8_model: Path, trained_run: Path) -> None:
    frame = draw_case(104)[0]
    (small,) = edgeseg.explain(int8_model, frame).reasons
    (whole,) = edgeseg.explain(trained_run, frame, method="rise").reasons
    assert correlate(small.map, whole.map) > 0.8
    assert small.margin is not None
    assert small.margin.step > 0
    assert small.levels == ()


def test_a_run_whose_data_have_gone_is_explained_by_itself(trained_run: Path, tmp_path: Path) -> None:
    import shutil

    copy = tmp_path / "moved/run"
    shutil.copytree(trained_run, copy)
    assert edgeseg.explain(copy, draw_case(105)[0]).reasons[0].levels
    (copy / "weights.h5").write_bytes(b"no weights")
    with pytest.raises(RunError):
        edgeseg.explain(copy, draw_case(105)[0])


def test_a_file_has_no_gradients(int8_model: Path) -> None:
    with pytest.raises(ModelFileError):
        edgeseg.explain(int8_model, draw_case(106)[0], method="gradients")


def test_reports_explain_the_worst_cases(trained_run: Path, tmp_path: Path) -> None:
    import shutil

    from edgeseg.report.cases import WHY
    from edgeseg.report.training import write_training_report
    from edgeseg.training.run import RECORD

    copy = tmp_path / "run"
    shutil.copytree(trained_run, copy)
    record = json.loads((copy / RECORD).read_text(encoding="utf-8"))
    record["data"] = str((trained_run / record["data"]).resolve())
    (copy / RECORD).write_text(json.dumps(record), encoding="utf-8")
    write_training_report(copy)
    page = (copy / "report.html").read_text(encoding="utf-8")
    assert 1 <= page.count(f"<figcaption>{WHY}") <= 2
    assert "Deletion" in page
