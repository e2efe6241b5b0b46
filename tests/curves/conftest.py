"""The same surroundings as for the other tests that build trainers."""

from tests.trainers.conftest import (  # noqa: F401 - fixtures
    nothing_is_sent,
    small_sums_stay_on_one_thread,
)
