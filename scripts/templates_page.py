"""Write docs/templates.md from the results of benchmarks/templates.py."""

from pathlib import Path

from results import read, rows_of
from wrap import write_page

from strop.data.checking.finding_kinds import KINDS

PAGE = Path(__file__).parent.parent / "docs" / "templates.md"
HEAD = """# What chat templates write

A chat template may leave out what a row says: reasoning, tools, calls, the words beside a call. strop
follows each character from the row into the text, names what is left out (`strop data check`, the plan
of `strop train`), and puts what a template cannot take in another form. Below, {count} templates with one
conversation a feature, each part marked by a word of its own: none was lost without a word.

- **yes**: all of it is written, and learned where it is an answer.
- **other form**: written after a change that keeps what is said: {ways}.
- **named**: a part is left out, and a finding says so: {kinds}.
- **refused**: nothing of an answer would be written, or the template refuses; the row is named.

Templates of TRL {trl}, strop's own of families that carry none, and those of published tokenizers,
rendered as transformers {transformers} does. `python benchmarks/templates.py` makes the numbers, `make
pages` this page.

"""


def short(verdict: str) -> str:
    """Return a verdict in one or two words."""
    if verdict.startswith("written"):
        return "yes" if verdict == "written" else "other form"
    return "named" if verdict.startswith("left out") else "refused"


def page() -> str:
    """Return the page as it should be."""
    results = read("templates.json")
    templates = results["templates"]
    features = list(next(iter(templates.values())))
    every = [verdict for verdicts in templates.values() for verdict in verdicts.values()]
    ways = sorted({v[9:-1] for v in every if v.startswith("written (")})
    kinds = [kind for kind in KINDS if any(v.startswith("left out") and kind in v for v in every)]
    head = HEAD.format(
        count=len(templates),
        ways=", ".join(ways),
        kinds=", ".join(f"`{kind}`" for kind in kinds),
        **results["versions"],
    )
    cells = [["template", *features]]
    for name, verdicts in templates.items():
        cells.append([name, *(short(verdicts[feature]) for feature in features)])
    return head + rows_of(cells) + "\n"


if __name__ == "__main__":
    write_page(PAGE, page())
