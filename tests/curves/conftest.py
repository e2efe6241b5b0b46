import pytest


@pytest.fixture(autouse=True)
def small_sums_stay_on_one_thread():
    """Run these models on one thread: they are too small for two."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def nothing_is_sent(monkeypatch):
    """Keep TRL from reporting each trainer to the hub."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_DISABLE_TELEMETRY", True)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
