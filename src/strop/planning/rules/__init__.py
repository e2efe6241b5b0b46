"""Rules that choose the settings of a run which nobody set: pure functions, each with its source."""

from strop.planning.rules.choice import Choice
from strop.planning.rules.chosen import choose
from strop.planning.rules.task import Task

__all__ = ["Choice", "Task", "choose"]
