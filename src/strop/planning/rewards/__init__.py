"""The setting `reward`: ready rewards and functions of one's own, each with a weight."""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from strop.core.errors import UnsupportedError
from strop.core.files import read_json

if TYPE_CHECKING:
    from strop.planning.settings import Settings

REINFORCED = ("grpo", "rloo")
"""Methods that learn from rewards of answers that the model samples."""

READY = {
    "exact": "1 if the answer, or its last line, is the row's but for case and punctuation",
    "number": "1 if its last number is that of the row's answer",
    "regex=PATTERN": "1 if the pattern matches in it",
    "json_schema=FILE": "1 if it is JSON that follows the schema",
    "length=WORDS": "1 up to so many words, less in proportion beyond",
    "format=TAG/TAG": "1 if it is <TAG>...</TAG> of each tag in turn, and nothing else",
    "unit_tests=COLUMN": "share of the tests in that column that its Python code passes, within limits",
    "judge=FILE": "grade by a judge model, from 0 to 1; the YAML file has its url and instruction",
    "rules=FILE": "share of the rules of voice that it follows, as of strop eval --rules",
}
"""Ready rewards, each with what an answer earns."""

_WITH_ARGUMENT = {name.partition("=")[0]: "=" in name for name in READY}
_FILE = re.compile(r"(?<=^json_schema=)[^:]+|(?<=^rules=)[^:]+|(?<=^judge=)[^:]+|^[^=]+\.py(?=:)")
_RUN = re.compile(r"^[^:=]+")
_WEIGHT = re.compile(r"(.+):([-+]?\d*\.?\d+)")


@dataclass(frozen=True, slots=True)
class RewardName:
    """One reward as a setting names it."""

    text: str
    """Without its weight."""
    kind: str
    """A ready one, `file` for a function of one's own, or `run` for a reward model."""
    argument: str
    weight: float


def reward_names(settings: "Settings") -> list[RewardName]:
    """Return the rewards that a setting names, `format=think/answer:0.2` with the weight 0.2."""
    return [_read(text) for text in _listed(settings.reward)]


def models_beside(settings: "Settings") -> int:
    """Return the bytes of the reward models that a run holds in memory beside its own."""
    runs = [name.text for name in reward_names(settings) if name.kind == "run"]
    return sum(weights_of_run(Path(run)) for run in runs)


def weights_of_run(run: Path) -> int:
    """Return the bytes of the frozen weights of a run, as it recorded them."""
    record = read_json(run / "run.json")
    return int(record.get("model", {}).get("weights", {}).get("bytes", 0))


def check_writes(run: Path, method: str | None) -> None:
    """Raise UnsupportedError if a run scores answers and writes none."""
    if method == "reward":
        raise UnsupportedError(
            f"{run} learned to reward answers and writes none: train with it (strop train PROMPTS "
            f"--reward {run}), score a file (strop predict {run} FILE --out OUT), or export it for "
            f"transformers or PEFT (strop export {run} --to merged, or adapter)"
        )


def lasting(given: str | list[str]) -> list[str]:
    """Return rewards with their files as absolute paths, so that a run resumes from anywhere."""
    return [_FILE.sub(_absolute, _RUN.sub(_absolute, text)) for text in _listed(given)]


def _absolute(match: re.Match[str]) -> str:
    return str(Path(match[0]).absolute()) if match.re is _FILE or _is_run(match[0]) else match[0]


def _is_run(name: str) -> bool:
    return (Path(name) / "run.json").is_file()


def _listed(given: str | list[str] | None) -> list[str]:
    if isinstance(given, str):
        given = [given] if given.startswith("regex=") else given.split(",")
    return [str(text).strip() for text in given or ()]


def _read(text: str) -> RewardName:
    weighed = _WEIGHT.fullmatch(text)
    bare, weight = (weighed[1], float(weighed[2])) if weighed else (text, 1.0)
    kind, _, argument = bare.partition("=")
    if kind not in _WITH_ARGUMENT and ".py:" in bare:
        return RewardName(bare, "file", "", weight)
    if kind not in _WITH_ARGUMENT and _is_run(bare):
        return RewardName(bare, "run", "", weight)
    return RewardName(bare, kind, argument, weight)


def reinforced(settings: "Settings") -> bool:
    """Return True if a run learns from rewards."""
    rewarded = settings.reward is not None or settings.environment is not None
    return settings.method in REINFORCED or (settings.method == "auto" and rewarded)


def problems(settings: "Settings") -> Iterator[str]:
    """Yield what is wrong with the settings of rewards and sampling."""
    rewarded = settings.reward is not None or settings.environment is not None
    if settings.method in REINFORCED and not rewarded:
        yield (
            f"method {settings.method} needs a reward: --reward FILE.py:function, a ready one "
            f"({', '.join(READY)}), or --environment NAME"
        )
    if settings.method not in (*REINFORCED, "auto") and rewarded:
        yield f"reward and environment are of methods grpo and rloo, and the method is {settings.method}"
    for name in reward_names(settings):
        yield from _name_problems(name)
    if not settings.temperature > 0:
        yield f"temperature is {settings.temperature}; answers are drawn, so it must be above 0"
    if settings.num_generations < 2:
        yield f"num_generations is {settings.num_generations}; rewards are compared, so at least 2"
    elif reinforced(settings) and settings.batch_size % settings.num_generations:
        below = settings.batch_size // settings.num_generations * settings.num_generations
        near = [n for n in (below, below + settings.num_generations) if n]
        yield (
            f"batch_size is {settings.batch_size} answers and num_generations {settings.num_generations}, "
            f"which does not divide it; take {' or '.join(f'--batch-size {n}' for n in near)}"
        )


def _name_problems(name: RewardName) -> Iterator[str]:
    known = f"known: FILE.py:function, a run of method reward, {', '.join(READY)}"
    if name.kind in ("file", "run"):
        pass
    elif name.kind not in _WITH_ARGUMENT:
        yield f"reward is {name.text!r}, which is no ready reward; {known}"
    elif _WITH_ARGUMENT[name.kind] != bool(name.argument):
        full = next(ready for ready in READY if ready.partition("=")[0] == name.kind)
        yield f"reward is {name.text!r}; write it as {full}"
    if name.kind == "length" and name.argument and not name.argument.isdigit():
        yield f"reward is {name.text!r}; the length is a whole number of words"
    if not math.isfinite(name.weight):
        yield f"the weight of reward {name.text} is {name.weight}; it must be finite"
