"""The training at one site: its own images, the weights that the server sent, and some epochs of edgeseg's own loop."""

from __future__ import annotations

import dataclasses
import os
import resource
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np

from edgeseg.core.progress import progress_bar
from edgeseg.data.augment import choose_variations
from edgeseg.data.dataset import find_shape, fingerprint_labels
from edgeseg.evaluation.known_frames import describe_known_frames
from edgeseg.federation.plan import LOCAL, Plan, SiteFacts, blur_fingerprint
from edgeseg.federation.weights import (
    Weights,
    assign_values,
    find_batch_norm,
    keep_own,
    list_shapes,
    read_values,
)
from edgeseg.model.keras import keras, tf, write_weights
from edgeseg.model.unet import build_unet
from edgeseg.training.ema import WeightEma
from edgeseg.training.grids import count_lacking, find_findings, to_grid, weigh_findings
from edgeseg.training.hardware import computing_in
from edgeseg.training.loading import Feed, LoadedData, Part, build_pipeline, load_data
from edgeseg.training.loop import Steps, TrainingSchedule, build_optimizer
from edgeseg.training.memory import check_memory
from edgeseg.training.options import TrainInputs, write_config
from edgeseg.training.resume import Checkpoint, has_checkpoint, remove_checkpoint
from edgeseg.training.run import FINISHED, WEIGHTS, FederationRecord, RunRecord, write_record
from edgeseg.training.strategy import distribute_batches
from edgeseg.training.trainer import begin_record, choose_losses, export_run, plain_split
from edgeseg.training.validation import (
    EpochCost,
    EpochResult,
    Judgement,
    Validator,
    draw_curve,
    summarise_timing,
    write_history,
)


@dataclass(frozen=True)
class SiteData:
    """Where a site's images lie, and how they are read."""

    root: Path
    layout: str | None = None
    group_pattern: str | None = None

    def load(self, plan: Plan) -> LoadedData:
        """Read all images into memory, with the plan's classes; other classes are refused."""
        split = plain_split(plan.options.seed, self.layout, self.group_pattern)
        return load_data(self.root, split, plan.options.input.in_colour, plan.class_specs)


@dataclass(frozen=True)
class LocalUpdate:
    """What a site sends after a round: weights, their moving average, and figures."""

    weights: Weights
    ema: Weights
    cost: EpochCost


class SiteTraining:
    """Everything of a federation that happens at a site; it knows nothing of how messages travel."""

    def __init__(self, data: SiteData, plan: Plan, site: str, folder: Path) -> None:
        """Read the site's images.

        Args:
            data: Where they are.
            plan: The plan, as far as it is known: not yet its finding output and white.
            site: The site's random name.
            folder: Where what must outlive an interruption is kept, and the run is made.
        """
        self._data, self.plan, self._site, self._folder = data, plan, site, folder
        self.loaded = data.load(plan)
        self._own: dict[int, Weights] = {}
        self._done = 0

    @cached_property
    def facts(self) -> SiteFacts:
        """All that the site tells of its data."""
        train = self.loaded.part("train")
        deep = any(image.deep for image in train)
        return SiteFacts(
            self._site,
            len(train),
            len(self.loaded.part("val")),
            count_lacking(train),
            self._begun.input.white if deep else 0,
            blur_fingerprint(self._begun.data_fingerprint, self.plan.federation),
        )

    @cached_property
    def _begun(self) -> RunRecord:
        """What a training on these images alone would be."""
        options = dataclasses.replace(self.plan.options, epochs=self.plan.course.epochs)
        return begin_record(self.loaded, self._data.root, self._folder, options, None)

    def settle(self, plan: Plan) -> None:
        """Take the final plan, and build the network and its training."""
        self.plan = plan
        keras.utils.set_random_seed(plan.options.seed)
        with computing_in(plan.options.precision):
            self._model = build_unet(plan.network)
        if not tf.config.list_physical_devices("GPU"):
            check_memory(self._model, plan.options.batch)
        self.ema_model = build_unet(plan.network)
        self.shapes = list_shapes(self.ema_model)
        self._is_own = (
            find_batch_norm(self.ema_model) if plan.course.batch_norm == LOCAL else [False] * len(self.shapes)
        )
        self.record = self._describe()
        train, validation = (to_grid(self.loaded.part(part), plan.input, plan.finding) for part in ("train", "val"))
        options = plan.options
        self._schedule = TrainingSchedule(plan.course.epochs, options.rate)
        augment = choose_variations(options.augment)
        self._feed = Feed(
            train, options.batch, options.seed, plan.network.output_stride, augment, plan.output.draws_background
        )
        self._model.compile(build_optimizer(self._schedule, self._feed.steps), **choose_losses(self.record))
        self._ema = WeightEma(self._model, options.ema)
        self._validator = Validator(validation, self.ema_model)
        self._anchors = [tf.Variable(weight, trainable=False) for weight in self._model.trainable_variables]
        self._checkpoint = Checkpoint(self._folder, self._folder, self._model, self._ema)
        if has_checkpoint(self._folder):
            # of an interrupted part in the same federation: the optimizer's state, and FedBN's own weights
            self._done = self._checkpoint.restore()
            self._keep_own(self._done)
        self._steps: Steps | None = None

    def _describe(self) -> RunRecord:
        """Describe the run that the site will have."""
        plan, train = self.plan, self.loaded.part("train")
        finding = plan.finding
        return dataclasses.replace(
            self._begun,
            input=plan.input,
            output=dataclasses.replace(plan.output, shape=find_shape(train)),
            finding=finding,
            spec=plan.network,
            finding_weights=weigh_findings(find_findings(train, finding)) if finding else (),
            label_fingerprint=fingerprint_labels(self.loaded.dataset.cases) if plan.frame_classes else "",
        )

    def train(self, number: int, weights: Weights, ema: Weights) -> LocalUpdate:
        """Train the epochs of a round.

        Args:
            number: The round, from 1 on.
            weights: The weights that it begins with.
            ema: Their moving average.

        Raises:
            TrainingError: The loss is no longer finite.
        """
        before = (number - 1) * self.plan.course.local_epochs
        assign_values(self._model, self._with_own(weights, read_values(self._model)))
        self._ema.restart(self._with_own(ema, self._read_ema()), before * self._feed.steps)
        # rate and warm-up follow the rounds of the federation, whichever of them this site missed
        self._model.optimizer.iterations.assign(before * self._feed.steps)
        for anchor, weight in zip(self._anchors, self._model.trainable_variables, strict=True):
            anchor.assign(weight)
        steps, epochs = self._open_steps(before), self.plan.course.local_epochs
        with progress_bar(f"Round {number} of {self.plan.course.rounds}", epochs * self._feed.steps) as advance:
            costs = [steps.run_epoch(epoch, partial(advance, "")) for epoch in range(before + 1, before + epochs + 1)]
        self._checkpoint.save(number)
        self._keep_own(number)
        cost = EpochCost(
            float(np.mean([one.loss for one in costs])),
            costs[-1].learning_rate,
            sum(one.seconds for one in costs),
            sum(one.waiting_seconds for one in costs),
        )
        return LocalUpdate(read_values(self._model), self._read_ema(), cost)

    def forget_gradients(self) -> None:
        """Empty the optimizer's memory after a training that diverged."""
        for variable in self._model.optimizer.variables:
            if variable.dtype.is_floating and "learning_rate" not in variable.name:
                variable.assign(tf.zeros_like(variable))

    def _open_steps(self, done: int) -> Steps:
        if self._steps is None:
            course = self.plan.course

            def build_batches(part: Part) -> Any:
                # twice as many as are needed: a server that went back to an earlier round repeats some
                return build_pipeline(self._feed, done + 2 * course.epochs, done, part)

            take_step = _proximal_step(self._model, self._anchors, course.proximal) if course.proximal else None
            batches = distribute_batches(self._model, build_batches)
            self._steps = Steps(self._model, self._ema, batches, self._feed.steps, take_step)
        return self._steps

    def _read_ema(self) -> Weights:
        before = read_values(self.ema_model)
        self._ema.copy_to(self.ema_model)
        values = read_values(self.ema_model)
        assign_values(self.ema_model, before)
        return values

    def _with_own(self, values: Weights, own: Weights) -> Weights:
        """Keep batch normalisation at the site, from its first round on, where the plan says so."""
        return keep_own(values, own, self._is_own) if self._done else values

    def _keep_own(self, number: int) -> None:
        self._done = number
        if any(self._is_own):
            self._own[number] = self._read_ema()

    def judge(self, number: int, ema: Weights) -> Judgement:
        """Measure the averaged weights of a round on the site's validation cases."""
        self.take(number, ema)
        return self._validator.judge(self.ema_model)

    def take(self, number: int, ema: Weights) -> None:
        """Load averaged weights into `ema_model`; with FedBN, beside the site's own of that round, or the nearest."""
        if self._own:
            nearest = min(self._own, key=lambda done: abs(done - number))
            ema = keep_own(ema, self._own[nearest], self._is_own)
        assign_values(self.ema_model, ema)

    def finish(
        self, out: Path, best: int, ema: Weights, history: Sequence[EpochResult], federation: FederationRecord
    ) -> RunRecord:
        """Turn the final weights into the site's run: decided on its validation cases, scored on its test cases.

        Args:
            out: Where the folder will be.
            best: The round whose weights these are.
            ema: The averaged weights.
            history: The federation's rounds.
            federation: What the run remembers of it.
        """
        self.take(best, ema)
        folder, record = self._folder, self.record
        validation, test = self.loaded.part("val"), self.loaded.part("test")
        record = dataclasses.replace(
            record,
            data=os.path.relpath(self._data.root, out),
            federation=federation,
            best_epoch=best,
            validation_dice=round(self._validator.dice(self.ema_model), 5),
            timing=summarise_timing(history, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
            status=FINISHED,
        )
        write_weights(folder / WEIGHTS, self.ema_model)
        write_history(folder, history)
        draw_curve(folder, history, next(row for row in history if row.epoch == best))
        self.loaded.write_split(folder)
        layout, group_pattern = record.split.layout, record.split.group_pattern
        write_config(
            folder,
            out,
            record.options,
            TrainInputs(self._data.root, layout=layout, group_pattern=group_pattern),
        )
        known = describe_known_frames([*self.loaded.part("train"), *validation], record.input)
        record = export_run(folder, self.ema_model, record, validation, test, known)
        write_record(folder, record)
        remove_checkpoint(folder)
        return record


def _proximal_step(model: Any, anchors: Sequence[Any], proximal: float) -> Callable[[Any], Any]:
    """Build FedProx's step: the loss grows with the distance to the weights that the round began with.

    Li et al. 2020, "Federated Optimization in Heterogeneous Networks", equation 2.
    """

    def take_step(batch: Any) -> Any:
        images, truth = batch
        with tf.GradientTape() as tape:
            loss = model.compute_loss(images, truth, model(images, training=True))
            pairs = zip(model.trainable_variables, anchors, strict=True)
            distance = tf.add_n([tf.reduce_sum(tf.square(weight - anchor)) for weight, anchor in pairs])
            total = loss + 0.5 * proximal * distance
        model.optimizer.minimize(total, model.trainable_variables, tape=tape)
        return loss

    return take_step
