"""Which modalities of a data folder a network is trained on."""

from __future__ import annotations

import dataclasses
import logging

from edgeseg.core.errors import TrainingError
from edgeseg.data.dataset import Dataset
from edgeseg.training.options import TrainOptions

_CHOOSE = "Name the modalities to train on with --modalities A,B."
_LOG = logging.getLogger(__name__)


def take_modalities(options: TrainOptions, dataset: Dataset) -> TrainOptions:
    """Name the modalities of the data in the options, where none were chosen and the data have several.

    Raises:
        TrainingError: Chosen ones are not there.
    """
    known = dataset.cases[0].modalities
    if options.modalities is None:
        if not known or options.colour != "grey":
            return options
        try:
            chosen = dataclasses.replace(options, modalities=",".join(known))
        except ValueError as error:
            raise TrainingError(f"Expected modalities that can be channels, got others: {error}.", _CHOOSE) from error
        _LOG.info("Channels are the modalities %s, in this order.", ", ".join(known))
        return chosen
    lacking = [name for name in options.input.modalities if name not in known]
    if lacking:
        raise TrainingError(
            f"Expected the modalities {', '.join(options.input.modalities)} in {dataset.root}, got "
            f"{', '.join(known) or 'ordinary images'}.",
            f"Choose among {', '.join(known)}." if known else "Leave --modalities out, or add a folder images_NAME.",
        )
    return options
