"""Conditions that an evaluation must meet, for continuous integration."""

import dataclasses
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from strop.core.files import written_whole
from strop.metrics.names import LOWER_IS_BETTER, UNBOUNDED

_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclasses.dataclass(frozen=True, slots=True)
class Check:
    """One condition and whether it is met."""

    name: str
    passed: bool
    sentence: str
    """What was measured beside what was required."""


def checks(
    evaluated: Mapping[str, Any],
    *,
    below: Mapping[str, float],
    above: Mapping[str, float],
    no_worse_than: str | None,
) -> list[Check]:
    """Return whether an evaluation meets each condition.

    Args:
        evaluated: what `strop.actions.evaluate.evaluate` returns.
        below: measures of the run or model that fail below a number.
        above: measures that fail above a number.
        no_worse_than: name of another run or model among those compared; fails where the run is
            surely worse by a measure: the 95 % interval of the difference lies on the worse side.
    """
    measures = evaluated.get("tuned") or evaluated["model"]
    results = [_bound(measures, name, bound, "below") for name, bound in below.items()]
    results += [_bound(measures, name, bound, "above") for name, bound in above.items()]
    if no_worse_than is not None:
        others = evaluated.get("against", ())
        difference = next(o["difference"] for o in others if o["name"] == no_worse_than)
        lower = {*LOWER_IS_BETTER, *measures.get("lower_is_better", ())}
        results += _comparisons(difference, no_worse_than, lower)
    return results


def _bound(measures: Mapping[str, Any], name: str, bound: float, side: str) -> Check:
    title = f"{name} not {side} {bound:g}"
    measure = measures.get(name)
    if not isinstance(measure, Mapping) or "low" not in measure:
        known = ", ".join(k for k, v in measures.items() if isinstance(v, Mapping) and "low" in v)
        return Check(title, False, f"{name} was not measured; measured are {known}")
    value = measure["value"]
    failed = value < bound if side == "below" else value > bound
    sentence = f"{name} is {_with_ends(measure)}, {'' if failed else 'not '}{side} {bound:g}"
    return Check(title, not failed, sentence)


def _comparisons(
    difference: Mapping[str, Any], other: str, lower_is_better: Collection[str]
) -> Iterator[Check]:
    for name, change in difference.items():
        if name in UNBOUNDED and name != "loss":
            continue
        sign = -1 if name in lower_is_better else 1
        ends = [sign * end for end in (change["low"], change["high"]) if end is not None]
        worse = bool(ends) and max(ends) < 0
        relation = "surely worse than" if worse else "not surely worse than"
        yield Check(
            f"{name} no worse than {other}",
            not worse,
            f"{name} differs by {_with_ends(change)}, {relation} {other}",
        )


def _with_ends(measure: Mapping[str, Any]) -> str:
    if measure["low"] is None:
        return f"{measure['value']:.4g}"
    return f"{measure['value']:.4g} ({measure['low']:.4g} to {measure['high']:.4g})"


def write_junit(path: Path, suite: str, results: Sequence[Check]) -> None:
    """Write checks as JUnit XML."""
    failures = sum(not check.passed for check in results)
    root = ElementTree.Element(
        "testsuite", name=suite, tests=str(len(results)), failures=str(failures)
    )
    for check in results:
        case = ElementTree.SubElement(
            root, "testcase", classname="strop.eval", name=_xml(check.name)
        )
        if not check.passed:
            ElementTree.SubElement(case, "failure", message=_xml(check.sentence))
        ElementTree.SubElement(case, "system-out").text = _xml(check.sentence)
    with written_whole(path) as scratch:
        ElementTree.ElementTree(root).write(scratch, encoding="utf-8", xml_declaration=True)


def _xml(text: str) -> str:
    return _NOT_XML.sub("\ufffd", text)
