"""Answers drawn from a model: batches of any prompts, each token computed and held once."""

from strop.models.sampling.answering import complete, reply, sample
from strop.models.sampling.rows import Answer
from strop.models.sampling.settings import Sampling

__all__ = ["Answer", "Sampling", "complete", "reply", "sample"]
