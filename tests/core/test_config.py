import dataclasses
from typing import Any, Literal

import pytest

from strop.core.config import Config
from strop.core.errors import ConfigError


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Bread(Config):
    """Settings for the tests."""

    flour: str
    grams: float = 500.0
    loaves: int | None = None
    crust: Literal["soft", "hard"] = "soft"
    salted: bool = True
    seeds: list[str] = dataclasses.field(default_factory=list)
    oven: dict[str, Any] = dataclasses.field(default_factory=dict)

    def problems(self):
        if self.grams <= 0:
            yield f"grams is {self.grams}; it must be above 0"


def test_what_fits_is_taken_and_a_whole_number_may_stand_for_a_number():
    bread = Bread.read({"flour": "rye", "grams": 750, "loaves": 2, "seeds": ["sesame"]})
    assert bread == Bread(flour="rye", grams=750.0, loaves=2, seeds=["sesame"])
    assert type(bread.grams) is float


def test_settings_survive_being_made_plain_and_read_again():
    bread = Bread(flour="spelt", crust="hard", oven={"degrees": 230})
    assert Bread.read(bread.plain()) == bread


def test_every_fault_is_named_at_once():
    given = {"flower": "rye", "grams": "much", "loaves": True, "crust": "burnt", "salted": 1}
    with pytest.raises(ConfigError) as failed:
        Bread.read(given)
    for sentence in (
        "flower is not a setting; did you mean flour?",
        "grams is 'much'; it must be a number",
        "loaves is True; it must be a whole number or nothing",
        "crust is 'burnt'; it must be 'soft' or 'hard'",
        "salted is 1; it must be true or false",
        "flour is missing",
    ):
        assert sentence in str(failed.value)


def test_an_impossible_value_is_named_beside_a_wrong_type():
    with pytest.raises(ConfigError) as failed:
        Bread.read({"flour": "rye", "grams": -1, "crust": 3})
    assert "grams is -1.0; it must be above 0" in str(failed.value)
    assert "crust is 3" in str(failed.value)


def test_a_name_like_none_known_lists_the_known_ones():
    with pytest.raises(ConfigError, match="zzz is not a setting; known: flour, grams"):
        Bread.read({"flour": "rye", "zzz": 1})
