"""The finding output: what it is taught, when there is one, and a training with it from images to a file."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path

import numpy as np
import pytest

from edgeseg.core.errors import DataError
from edgeseg.core.files import partial_path
from edgeseg.core.modelfile import read_model
from edgeseg.core.spec import FindingSpec
from edgeseg.data.augment import AugmentSpec
from edgeseg.model.keras import keras, tf
from edgeseg.model.losses import find_finding_loss
from edgeseg.model.spec import SIZES
from edgeseg.model.unet import build_unet, find_mask_shape, split_outputs
from edgeseg.training import trainer
from edgeseg.training.grids import UNKNOWN, GridArrays, weigh_findings
from edgeseg.training.loading import FEWEST_LACKING, Feed, build_pipeline, find_truth, load_data
from edgeseg.training.options import TrainOptions
from edgeseg.training.run import RunRecord, read_run
from edgeseg.training.start import start_from
from edgeseg.training.trainer import plain_split, resume_run, train_run
from edgeseg.training.validation import channel_aucs, read_history
from edgeseg.training.weak_supervision import LARGEST_RATIO
from tests.discs import make_disc_data
from tests.shallow import SHALLOW

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("shallow_sizes")]

OPTIONS = TrainOptions(model="nano", size=32, epochs=2, seed=1)
LABELS = np.array([[1, 0], [0, 1], [UNKNOWN, UNKNOWN]] * 2, np.float32)


def label_discs(root: Path, without: int = 0) -> Path:
    """Label discs and empty frames, but for the first few."""
    rows = (f"case_{n:02d},{'empty' if n % 5 == 4 else 'disc'}\n" for n in range(without, 40))
    (root / "labels.csv").write_text("stem,label\n" + "".join(rows), encoding="utf-8")
    return root


@pytest.fixture(scope="module")
def labelled_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return label_discs(make_disc_data(tmp_path_factory.mktemp("labelled") / "discs", 40), without=2)


def stop(*_: object) -> None:
    raise KeyboardInterrupt


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory, labelled_data: Path) -> Path:
    """Train all epochs, and stop before the file is written."""
    out = tmp_path_factory.mktemp("finding") / "run"
    with pytest.MonkeyPatch.context() as patched:
        for name, size in SHALLOW.items():
            patched.setitem(SIZES, name, size)
        patched.setattr(trainer, "export_run", stop)
        with pytest.raises(KeyboardInterrupt):
            train_run(labelled_data, out, OPTIONS)
    return out


@pytest.fixture(scope="module")
def run(stopped: Path, labelled_data: Path) -> Path:
    """Finish that training."""
    begun = read_history(partial_path(stopped))
    resume_run(labelled_data, stopped)
    assert read_history(stopped) == begun
    return stopped


def test_a_training_is_not_continued_with_other_labels(stopped: Path, labelled_data: Path, tmp_path: Path) -> None:
    if stopped.is_dir():
        pytest.skip("the training is finished already")
    for kind in ("images", "masks"):
        (tmp_path / kind).symlink_to(labelled_data / kind)
    with pytest.raises(DataError, match="labels"):
        resume_run(label_discs(tmp_path, without=9), stopped)


def make_feed(frame_labels: np.ndarray | None, **changes: object) -> Feed:
    masks = np.zeros((6, 32, 32, 1), np.uint8)
    masks[::2, 8:24, 8:24] = 1
    feed = Feed(GridArrays(masks * 200, masks, frame_labels=frame_labels), batch=3, seed=1, stride=4, augment=None)
    return dataclasses.replace(feed, **changes)  # type: ignore[arg-type]


def test_a_batch_holds_findings_beside_the_masks() -> None:
    for background in (False, True):
        images, (masks, findings) = next(iter(build_pipeline(make_feed(LABELS, background=background), epochs=1)))
        assert masks.shape == (3, 8, 8, 1 + background)
        assert findings.shape == (3, 1, 1, 3)
        presence = np.asarray(images).max(axis=(1, 2, 3)) > 0
        assert (np.asarray(findings)[:, 0, 0, 0] == presence).all()
    _, masks = next(iter(build_pipeline(make_feed(None), epochs=1)))
    assert masks.shape == (3, 8, 8, 1)
    bare = make_feed(np.zeros((6, 0), np.float32))
    assert next(iter(build_pipeline(bare, epochs=1)))[1][1].shape == (3, 1, 1, 1)


def test_what_has_left_the_picture_is_no_longer_there() -> None:
    masks = np.zeros((32, 32, 2), np.uint8)
    masks[2:6, 2:6, 0] = 1
    masks[20:30, 20:30, 1] = 1
    labels = np.array([1, 0], np.float32)
    part, gone = masks.copy(), np.zeros_like(masks)
    part[..., 0] = 0
    part[21:, :, 1] = 0
    assert find_truth(masks, masks, labels).tolist() == [[[1, 1, 1, 0]]]
    assert find_truth(masks, part, labels).tolist() == [[[0, 1, 1, 0]]]
    assert find_truth(masks, gone, labels).tolist() == [[[0, 0, UNKNOWN, UNKNOWN]]]
    # nothing was there from the start: the label says so
    assert find_truth(gone, gone, labels).tolist() == [[[0, 0, 1, 0]]]


def test_presence_is_read_off_the_augmented_masks() -> None:
    masks = np.zeros((1, 32, 32, 1), np.uint8)
    masks[:, :2, :2] = 1
    arrays = GridArrays(masks * 200, masks, frame_labels=np.zeros((1, 0), np.float32))
    feed = Feed(arrays, batch=1, seed=0, stride=4, augment=AugmentSpec())
    made = [feed.make_case(epoch, 0) for epoch in range(40)]
    present = [bool(finding[0, 0, 0]) for _, _, finding in made]
    assert present == [bool(mask.any()) for _, mask, _ in made]
    assert 0 < sum(present) < 40


def test_rare_findings_weigh_more_within_limits() -> None:
    truth = np.array([[1, 1, 0, UNKNOWN]] * 3 + [[0, 1, 0, 1]], np.float32)
    often, always, never, one = weigh_findings(truth)
    assert often == pytest.approx((2 / 3, 2.0), abs=1e-3)
    assert always[1] / always[0] == pytest.approx(LARGEST_RATIO, rel=1e-2)
    assert never[0] / never[1] == pytest.approx(LARGEST_RATIO, rel=1e-2)
    assert one == always
    assert weigh_findings(truth[:, 3:][:3]) == ((1.0, 1.0),)


def test_weights_leave_the_probabilities_as_they_are() -> None:
    """A constant is fitted to three ones and a zero, with weights that make both count alike."""
    truth = tf.constant([[[[1.0]]], [[[1.0]]], [[[1.0]]], [[[0.0]]]])
    guesses = np.linspace(0.05, 0.95, 19).astype(np.float32)
    for weights in ((), weigh_findings(np.array([[1], [1], [1], [0]], np.float32))):
        loss = find_finding_loss(weights)
        costs = [float(tf.reduce_mean(loss(truth, tf.fill((4, 1, 1, 1), guess)))) for guess in guesses]
        assert guesses[int(np.argmin(costs))] == pytest.approx(0.75)


def test_unknown_findings_cost_nothing() -> None:
    loss = find_finding_loss(((1.0, 1.0), (3.0, 0.5)))
    truth = tf.constant([[[[1.0, UNKNOWN]]]])
    costs = [float(loss(truth, tf.constant([[[[0.8, guess]]]]))[0]) for guess in (0.0, 0.5, 1.0)]
    assert costs[0] == costs[1] == costs[2] > 0.0
    assert np.isfinite(loss(truth, tf.constant([[[[0.0, 1.0]]]]))).all()


def test_aucs_are_taken_over_what_is_known() -> None:
    truth = np.array([[1, UNKNOWN, 1], [1, 1, 1], [0, 0, 1], [0, UNKNOWN, 1]], np.float32)
    found = np.array([[0.9, 0.0, 0], [0.5, 0.6, 0], [0.5, 0.4, 0], [0.1, 1.0, 0]], np.float32)
    assert channel_aucs(found, truth) == [0.875, 1.0, None]


def test_networks_give_masks_first() -> None:
    for findings in (0, 3):
        model = build_unet(OPTIONS.describe_network(2, findings))
        masks, found = split_outputs(model(np.zeros((2, 32, 32, 1), np.float32)))
        assert find_mask_shape(model) == masks.shape[1:] == (8, 8, 2)
        assert (found is None) == (not findings)
        assert found is None or found.shape == (2, 1, 1, 3)


def test_the_hidden_layer_of_findings_may_be_narrower() -> None:
    spec = dataclasses.replace(OPTIONS.describe_network(1, 1), own={"finding_hidden": 24})
    assert build_unet(spec).get_layer("finding_hidden").output_shape[-1] == 24
    with pytest.raises(ValueError, match="finding_hidden"):
        dataclasses.replace(spec, findings=0)


def test_a_training_learns_findings_and_says_so_on_the_card(run: Path) -> None:
    record = read_run(run)
    assert record.finding == FindingSpec(("disc", "empty"))
    assert record.spec.findings == 3 == len(record.finding_weights)
    card = read_model(run / "model.tflite").card
    assert card.finding == record.finding
    assert card.finding_quantisation is not None
    history = read_history(run)
    assert all(row.finding_auc is not None and row.frame_class_auc is not None for row in history)
    assert "finding_auc" in (run / "history.csv").read_text(encoding="utf-8")


def test_sets_in_which_nothing_lacks_get_none_and_training_says_why(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data = load_data(make_disc_data(tmp_path / "few", 4), plain_split(0))
    assert data.choose_finding() is None
    with caplog.at_level(logging.INFO, "edgeseg"):
        data.log_finding(None, "auto")
    assert caplog.messages == [
        "No finding output: every training image shows every class, and no labels.csv labels frames."
    ]
    caplog.clear()
    some = load_data(make_disc_data(tmp_path / "some", 20), plain_split(0))
    assert some.choose_finding() is None
    with caplog.at_level(logging.INFO, "edgeseg"):
        some.log_finding(None, "auto")
        some.log_finding(None, "none")
    (message,) = caplog.messages
    assert f"at least {FEWEST_LACKING}" in message
    many = load_data(make_disc_data(tmp_path / "many", 40), plain_split(0))
    assert many.choose_finding() == FindingSpec()


def test_none_asks_for_no_finding(labelled_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainer, "_train", lambda _, record, *__: record)
    record: RunRecord = train_run(labelled_data, tmp_path / "run", dataclasses.replace(OPTIONS, findings="none"))
    assert (record.finding, record.spec.findings, record.label_fingerprint) == (None, 0, "")


def test_encoders_are_taken_over_with_and_without_findings(run: Path) -> None:
    for findings in (0, 1):
        assert start_from(build_unet(OPTIONS.describe_network(1, findings)), run) > 5


def test_a_finding_alone_can_be_learned() -> None:
    """The second loss reaches the shared layers: frames of two brightnesses, and a mask that says nothing."""
    keras.utils.set_random_seed(0)
    model = build_unet(OPTIONS.describe_network(1, 1))
    model.compile("adam", [lambda _, masks: 0.0 * masks[:, 0, 0, 0], find_finding_loss()], loss_weights=[1.0, 0.3])
    images = np.random.default_rng(0).uniform(0, 0.3, (16, 32, 32, 1)).astype(np.float32)
    images[::2] += 0.5
    truth = (np.arange(16) % 2 == 0).astype(np.float32).reshape(16, 1, 1, 1)
    model.fit(images, (np.zeros((16, 8, 8, 1), np.float32), truth), epochs=40, verbose=0)
    _, found = model.predict(images, verbose=0)
    assert channel_aucs(found.reshape(16, 1), truth.reshape(16, 1)) == [1.0]
