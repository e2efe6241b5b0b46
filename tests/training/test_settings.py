"""Settings are declared once and checked all at once."""

import dataclasses

import pytest

from strop.core.errors import ConfigError
from strop.planning.settings import AUTOMATIC, Settings, described


def test_every_setting_has_a_type_a_default_and_a_line_of_meaning():
    assert list(described()) == [f.name for f in dataclasses.fields(Settings)]
    for name, (_, default, meaning) in described().items():
        assert meaning.endswith("."), name
        assert "\n" not in meaning, name
        assert default == ("auto" if name in AUTOMATIC else getattr(Settings(), name))


def test_a_misspelt_setting_gets_a_suggestion_and_all_faults_come_together():
    with pytest.raises(ConfigError) as caught:
        Settings.read({"learning_rat": 1e-4, "rank": 0, "warmup": 1.5, "batch_size": "many"})
    text = str(caught.value)
    assert "did you mean learning_rate?" in text
    assert "batch_size is 'many'; it must be a whole number" in text
    assert "rank" not in text or "at least 1" in text


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("rank", 0),
        ("batch_size", 0),
        ("max_steps", 0),
        ("learning_rate", 0.0),
        ("learning_rate", float("nan")),
        ("epochs", -1.0),
        ("warmup", 1.0),
        ("dropout", 1.0),
        ("held_out", 1.5),
        ("held_out", -3),
        ("max_length", 1),
        ("schedule", "sideways"),
        ("activations", "all"),
        ("bits", 3),
    ],
)
def test_an_impossible_value_is_refused_by_name(name, value):
    with pytest.raises(ConfigError, match=name):
        Settings.read({name: value})


def test_a_setting_without_effect_is_refused():
    with pytest.raises(ConfigError, match="no effect while accelerate is false"):
        Settings.read({"accelerate": False, "micro_batch_tokens": 512})


def test_held_out_is_a_share_or_a_number_of_rows():
    assert Settings.read({"held_out": 20}).held_out == 20
    assert Settings.read({"held_out": 0.2}).held_out == 0.2
    assert isinstance(Settings.read({"held_out": 20}).held_out, int)


def test_plain_settings_read_back_as_the_same():
    settings = Settings(rank=4, target_modules=["q_proj"], trainer={"optim": "adamw_torch"})
    assert Settings.read(settings.plain()) == settings
