"""What the random numbers of a search are for: every use has a stream of seeds of its own."""

from __future__ import annotations

from enum import IntEnum


class Stream(IntEnum):
    """A number for :func:`~nasnet_det.runs.seeds.derive_seed`, before that of the single use.

    The values are part of every result: never change them.
    """

    CONTROLLER = 1  # its first weights
    MINIBATCH = 2  # architectures drawn from the controller, by minibatch
    EVOLUTION = 3  # tournament and mutation, by trial
    OPTUNA = 4  # Optuna's own samplers, by trial
    CHILD = 5  # training of a child, by trial
    SPLIT = 6  # which training images are held out
    PREDICTOR = 8  # weights and candidates, by trial
    RETRAIN = 7  # retraining of an architecture, by the checksum of its canonical form
    DETECTOR = 9  # training of a detector, by rung and by the checksum of the candidate's name
