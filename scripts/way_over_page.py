"""Write docs/way_over.md: what keys of other tools' configurations are called here."""

from collections.abc import Iterator
from pathlib import Path

from wrap import write_page

from strop.compat.configs.tables import ABSENT, RENAMED, TO_TRAINER, UNNEEDED
from strop.planning.argument_tables import DECIDED
from strop.planning.settings import described

PAGE = Path(__file__).parent.parent / "docs" / "way_over.md"
COMPOSED = {
    "data": ("datasets, pretraining_dataset", "dataset, dataset_dir", "local_dataset", "train_dataset"),
    "bits": ("load_in_4bit, adapter", "quantization_bit", "load_in_4bit", "quantization_config"),
    "method": ("rl", "stage, pref_loss", "", "the trainer"),
    "batch_size": (
        "micro_batch_size × gradient_accumulation_steps",
        "per_device_train_batch_size × gradient_accumulation_steps",
        "batch_size × gradient_accumulation_steps",
        "per_device_train_batch_size × gradient_accumulation_steps",
    ),
    "schedule": ("lr_scheduler", "lr_scheduler_type", "", "lr_scheduler_type"),
    "warmup": ("warmup_ratio, warmup_steps", "warmup_ratio, warmup_steps", "warmup_steps", "warmup_steps"),
    "target_modules": (
        "lora_target_modules, lora_target_linear", "lora_target", "target_modules", "target_modules",
    ),
    "answers": ("", "mask_history", "", ""),
}  # fmt: skip
"""Settings that follow from several keys: Axolotl, LLaMA-Factory, Unsloth, TRL and PEFT."""
PEFT = {"rank": "r", "alpha": "lora_alpha", "dropout": "lora_dropout"}
PEFT |= {name: name for name in ("use_rslora", "use_dora")}

INTRO = """# From other tools

`strop import-config FILE` turns a training configuration of Axolotl or LLaMA-Factory (YAML) or of
Unsloth (YAML or JSON) into settings, and names each key that has no counterpart with why:

```console
strop import-config axolotl.yml --out settings.yaml
strop train rows.jsonl --config settings.yaml
```

Data sets on a hub are named, not fetched; files are looked for beside the configuration, and by the
names in LLaMA-Factory's `dataset_info.json`. What follows from the data, as the number of steps of
a warm-up, is left to a flag. With `--json`: `settings`, and `left_out` and `unneeded` with key,
value and reason each. A script of TRL goes on as it is with one more line,
`strop.accelerate(trainer)` ([trainers.md](trainers.md)); a notebook of Unsloth with other imports
([unsloth.md](unsloth.md)).
"""


def page() -> str:
    """Return the page."""
    return "\n".join([INTRO, *_settings(), *_others()]) + "\n"


def _settings() -> Iterator[str]:
    yield "## Settings\n"
    yield "| strop | Axolotl | LLaMA-Factory | Unsloth | TRL, PEFT |"
    yield "|---|---|---|---|---|"
    trl: dict[str, list[str]] = {}
    for argument, setting in DECIDED.items():
        trl.setdefault(setting, []).append(argument)
    for name in described():
        cells = COMPOSED.get(name) or (*(_keys(tool, name) for tool in RENAMED), "")
        last = cells[3] or PEFT.get(name) or ", ".join(trl.get(name, ())[:2])
        if any(cells[:3]):
            yield f"| `{name}` | {' | '.join([*cells[:3], last])} |"
    names = ", ".join(f"`{name}`" for name in dict.fromkeys(TO_TRAINER))
    yield f"\nGiven on to TRL by the setting `trainer`: {names}.\n"


def _keys(tool: str, setting: str) -> str:
    return ", ".join(key for key, other in RENAMED[tool].items() if other == setting)


def _others() -> Iterator[str]:
    for title, table in (("Not needed", UNNEEDED), ("Without counterpart", ABSENT)):
        yield f"## {title}\n"
        reasons: dict[str, list[str]] = {}
        for key, reason in table.items():
            reasons.setdefault(reason, []).append(f"`{key}`")
        yield "| keys | why, and the way |"
        yield "|---|---|"
        for reason, keys in reasons.items():
            yield f"| {', '.join(keys)} | {reason} |"
        yield ""


if __name__ == "__main__":
    write_page(PAGE, page())
