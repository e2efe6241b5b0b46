"""What is wrong with the settings of continued pre-training."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from strop.planning.settings import Settings


def problems(settings: "Settings") -> Iterator[str]:
    """Yield what is wrong with the setting `replay`."""
    if settings.replay is None:
        return
    from strop.data.reading.blend import sources_of

    if not 0 < sources_of(settings.replay)[0].weight < 1:
        yield (
            f"replay is {settings.replay!r}; write a file and its share of the tokens, as in "
            "general.txt:0.1"
        )
    if settings.method not in ("text", "auto"):
        yield f"replay is of method text, and the method is {settings.method}"
