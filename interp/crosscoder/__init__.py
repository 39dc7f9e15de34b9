"""Crosscoders over n models: one sparse code, n encoders and n decoders. Knows tensors only."""

from interp.crosscoder.config import CrosscoderConfig, TrainConfig
from interp.crosscoder.metrics import Evaluation, evaluate
from interp.crosscoder.module import Crosscoder
from interp.crosscoder.fit import Trained, train, train_many

__all__ = ["Crosscoder", "CrosscoderConfig", "Evaluation", "TrainConfig", "Trained", "evaluate", "train", "train_many"]
