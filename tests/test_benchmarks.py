"""What the benchmarks count and compare is right; what they measure needs a quiet machine."""

import importlib.metadata
import json
import random
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from huggingface_hub import constants
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))
sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
import card
import card_steps
import compare
import floor
import gpu_page
import table
import trl_comparison
import trl_tests

from strop.forward.compaction import SHORTEST_PREFIX

ROOT = Path(__file__).parents[1]


def families(seed: int) -> list[list[int]]:
    chance = random.Random(seed)

    def text(length: int) -> list[int]:
        return [chance.randrange(9) for _ in range(length)]

    rows = []
    for _ in range(3):
        beginning = text(chance.randrange(40, 80))
        for _ in range(2):
            middle = text(chance.randrange(0, 90))
            rows += [beginning + middle + text(chance.randrange(1, 50)) for _ in range(3)]
    return rows


@pytest.mark.parametrize("seed", range(5))
def test_the_floor_counts_each_shared_token_once(seed: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(floor, "SHARED_FROM", 1)
    rows = families(seed)
    runs = floor.runs(sorted(rows))
    distinct = {tuple(row[: i + 1]) for row in rows for i in range(len(row))}
    assert sum(length for length, _ in runs) == len(distinct)
    pairs = sum(length * before + length * (length + 1) // 2 for length, before in runs)
    assert pairs == sum(map(len, distinct))


def test_the_floor_does_not_share_what_is_shorter_than_the_limit():
    limit = floor.SHARED_FROM
    assert limit == SHORTEST_PREFIX  # what strop shares is what the floor leaves out
    rows = [[1] * (limit - 1) + [2], [1] * (limit - 1) + [3]]
    assert floor.runs(rows) == [(limit, 0), (limit, 0)]
    rows = [[1] * limit + [2], [1] * limit + [3]]
    assert floor.runs(rows) == [(limit, 0), (1, limit), (1, limit)]


def test_the_last_token_of_a_row_is_predicted_and_never_read():
    work = floor.work_of([([5, 6, 7, 8], 2)])
    assert (work.tokens, work.supervised, work.runs) == (3, 2, [(3, 0)])


def test_curves_are_compared_step_by_step_relative_to_the_first_mode():
    plain = {"loss": [2.0, 1.0], "grad_norm": [1.0, 1.0]}
    other = {"loss": [2.0, 1.001], "grad_norm": [1.02, 1.0]}
    differences = compare.differences_of(other, plain, None)
    assert differences == pytest.approx({"loss": 1e-3, "grad_norm": 2e-2})
    assert compare.differences_of(other, plain, 10.0)["loss"] == pytest.approx(1e-4)


def test_dropout_that_drops_nothing_leaves_every_number_and_its_rate_afterwards():
    dropout, numbers = torch.nn.Dropout(0.5), torch.randn(1000)
    with trl_comparison._dropping_nothing([dropout]):
        assert dropout.p > 0
        assert torch.equal(dropout(numbers), numbers)
    assert dropout.p == 0.5
    assert not torch.equal(dropout(numbers), numbers)


def test_models_in_float64_compute_their_4_bit_layers_in_float32():
    layer = torch.nn.Linear(3, 2)
    layer.compute_dtype = torch.float16
    weight = layer.weight.data
    with trl_comparison._in_float64(SimpleNamespace(model=layer)):
        assert layer.weight.dtype == torch.float64
        assert layer.compute_dtype == torch.float32
    assert torch.equal(layer.weight.data, weight)
    assert layer.compute_dtype == torch.float16


def test_a_metric_that_differs_in_float64_alone_is_no_error():
    compared = {"loss": 0.0, "gradient": 1e-3, "norm": 1.0, "metrics": {}}
    double = compared | {"gradient": 1e-9, "metrics": {"entropy": 1e-9}}
    apart = {"strop": double, "trl": double}
    line = {"compared": [compared | {"float64": double, "against_float64": apart}]}
    differing = trl_tests.differing(line)
    assert differing["errors"] == {"gradient": 1e-3}
    assert differing["float64"] == {"gradient": 1e-9}
    assert differing["rounding"]


def test_each_kind_of_machine_has_a_table_and_files_of_its_own(tmp_path: Path):
    mode = {"seconds": 2.0, "rss": 1e9}
    units = {"older": [], "AVX2": ["avx2"], "AVX512-BF16": ["avx2", "avx512f", "avx512_bf16"]}
    for name, present in units.items():
        result = {"name": "sft", "workload": "chats", "modes": {"trl-rows": mode}, "rounds": 1}
        result |= {"trl_fastest": "trl-rows", "void": False, "commit": "c", "over_floor": {}}
        result["largest_difference"] = {"trl-rows": {"loss": 0.0}}
        result["over_floor"] = {"trl-rows": 1.0}
        result["machine"] = {"cpu": name, "units": present} if present else {"cpu": name}
        compare.save(result, tmp_path)
    files = sorted(tmp_path.glob("*.json"))
    assert [f.name for f in files] == ["sft.avx2.json", "sft.avx512-bf16.json", "sft.json"]
    text = table.parts([json.loads(f.read_text()) for f in files])
    places = [text.index(f"c, {name})") for name in ("AVX512-BF16", "AVX2", "older")]
    assert places == sorted(places)
    assert text.count("| seconds a step |") == 3


@pytest.mark.slow
def test_every_kernel_that_a_card_times_is_called_on_a_fake_one():
    words = [sys.executable, "-m", "strop.core.simulated.fake_cuda", "card_kernels", "0"]
    folder = ROOT / "benchmarks"
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    lines = card.parsed(done.stdout)
    assert {line["operation"].split(",")[0] for line in lines} == {
        "add_low_rank", "dequantize", "glu", "linear_log_prob", "mixed_product", "rms_norm", "rope",
        "segment_attention",
    }  # fmt: skip
    assert not any(line["errors"] for line in lines)


@pytest.mark.filterwarnings("ignore:You are using 'rollout_func':UserWarning")
@pytest.mark.parametrize("kind", ["chats", "GRPO group"])
def test_steps_of_a_card_have_the_losses_of_plain_trl(kind: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_TELEMETRY", True)
    model = card_steps.random_model(card_steps.TINY["tiny"], 4)
    batch = card_steps.batches(0.05)[kind]
    ours, plain = (
        card_steps.measure(model, batch, mode) for mode in ("strop-bfloat16", "trl-batch-bfloat16")
    )
    assert ours["loss"] == pytest.approx(plain["loss"], rel=compare.LARGEST_IN_BFLOAT16, abs=1e-3)
    assert len(ours["seconds"]) == card_steps.STEPS - 1


def test_what_a_card_said_stands_on_its_page_with_the_peak_that_was_expected(tmp_path: Path):
    case = {"model": "8B", "bits": 4, "workload": "chats"}
    measured = [
        case | {"mode": "strop-bfloat16", "seconds": [0.2, 0.4, 0.3], "loss": [1.0], "peak": 9e9},
        case | {"mode": "trl-batch-bfloat16", "out_of_memory": True},
    ]
    simulated = [case | {"mode": "strop-bfloat16", "simulated_peak": 8e9}]
    times = {"strop": 0.5, "eager": 2.0}
    result = {
        "card": {"name": "H200", "memory_gb": 150.8},
        "tests": {"passed": 7, "failures": [{"test": "test_glu", "why": "rms error 2"}]},
        "kernels": {"lines": [{"operation": "glu", "milliseconds": times}]},
        "steps": {"lines": card.with_peaks(measured, simulated)},
        "versions": {"torch": "2.11.0", "triton": "3.6.0"},
        "commit": "c0ffee",
    }
    (tmp_path / "card.json").write_text(json.dumps(result))
    page = gpu_page.card(tmp_path / "card.json")
    assert "7 tests passed, 1 failed" in page
    assert "| glu | 0.500 | 2.000 | – |" in page
    assert "| 8B, 4, chats | strop-bfloat16 | 0.300 | 9.00 | 8.00 |" in page
    assert "out of memory" in page


@pytest.mark.parametrize("name", ["accelerate", "peft", "transformers", "trl"])
def test_unsloths_environment_has_all_that_its_libraries_need(name):
    """It is installed without looking for more, so the list must be whole."""
    lines = (ROOT / "benchmarks" / "unsloth.txt").read_text().splitlines()
    listed = {canonicalize_name(line.split("==")[0]) for line in lines if "==" in line}
    needed = [Requirement(text) for text in importlib.metadata.requires(name) or ()]
    always = [r for r in needed if r.marker is None or r.marker.evaluate({"extra": ""})]
    assert {canonicalize_name(r.name) for r in always} | {name} <= listed
