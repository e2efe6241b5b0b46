"""Rules that choose the settings of a run which nobody set: pure functions, each with its source."""

from strop.planning.rules.choice import BY_HAND, Choice
from strop.planning.rules.chosen import choose
from strop.planning.rules.task import Task

__all__ = ["BY_HAND", "Choice", "Task", "choose"]
