"""Tables of TRL's and transformers' training arguments: which work in strop's runs, and which do not.

Every field of `trl.SFTConfig` is in exactly one of the first three tables; a test holds them to the
installed class. `docs/settings.md` shows them.
"""

WORKS = {
    "adam_beta1": "AdamW's decay of the mean gradient",
    "adam_beta2": "AdamW's decay of the mean squared gradient",
    "adam_epsilon": "AdamW's smallest divisor",
    "eval_delay": "no held-out loss before this step, but for the first and the last",
    "full_determinism": "PyTorch's deterministic algorithms for the whole process",
    "greater_is_better": "follows from the metric; another value is refused",
    "label_smoothing_factor": "label smoothing in the loss",
    "load_best_model_at_end": "as the setting of this name",
    "log_level": "what transformers logs",
    "loss_type": "`nll`, or `dft` for dynamic fine-tuning",
    "lr_scheduler_kwargs": "further numbers of the schedule, such as num_cycles of cosine",
    "metric_for_best_model": "as the setting of this name",
    "neftune_noise_alpha": "noise on the embeddings; they are then computed the plain way",
    "optim": "another optimizer of transformers",
    "optim_args": "further arguments of `optim`",
    "project": "trackio's project, with the setting `report_to`",
    "run_name": "name in a tracker, that of the run's folder without it, with `report_to`",
    "router_aux_loss_coef": "weight of the router's loss in a mixture of experts",
    "save_total_limit": "checkpoints kept, 2 without it",
    "tf32": "TensorFloat-32 on NVIDIA cards that have it",
    "torch_empty_cache_steps": "unused memory of a card is given back every so many steps",
    "trackio_bucket_id": "where trackio stores what a Space shows, with `report_to`",
    "trackio_space_id": "the Space that trackio sends to, which is none without it, with `report_to`",
    "trackio_static_space_id": "the Space that stays after the run, with `trackio_space_id`",
    "train_sampling_strategy": "`random`, `sequential` or `group_by_length`",
}
"""Arguments that have their effect, each with it."""

DECIDED = {
    "activation_checkpointing": "activations",
    "activation_checkpointing_kwargs": "activations",
    "bf16": "bits",
    "data_seed": "seed",
    "eval_steps": "eval_every",
    "eval_strategy": "eval_every",
    "fp16": "bits",
    "gradient_accumulation_steps": "batch_size",
    "gradient_checkpointing": "activations",
    "gradient_checkpointing_kwargs": "activations",
    "learning_rate": "learning_rate",
    "lr_scheduler_type": "schedule",
    "max_grad_norm": "max_grad_norm",
    "max_length": "max_length",
    "max_steps": "max_steps",
    "num_train_epochs": "epochs",
    "output_dir": "out",
    "per_device_eval_batch_size": "batch_size",
    "per_device_train_batch_size": "batch_size",
    "save_steps": "save_every",
    "save_strategy": "save_every",
    "seed": "seed",
    "warmup_steps": "warmup",
    "weight_decay": "weight_decay",
}
"""Arguments that a setting of strop decides, whatever their value."""

_HUB = "strop push uploads a certified export, and nothing else is sent anywhere"
_LIGER = "strop fuses these layers itself (accelerate)"
_COMPILE = "strop's fused layers take the place of compiled ones (accelerate)"
_SEVERAL = "a run is one process; for several, use strop.accelerate(trainer) in a script with TRL's trainer"
_PACKING = "packing is not needed: strop computes no padding, and rows stay apart (accelerate)"
_RESUME = "a resumed run goes on exactly where it stopped: strop train --resume RUN"
_ANSWERS = (
    "of chats and of prompts with completions the answers are learned (answers, end_token, reasoning); "
    "give rows as plain text, {'text': ...}, to learn them whole"
)
_TEMPLATE = (
    "rows are encoded with the model's own tokenizer and template; change them in the model's folder, "
    "or give tokenizer= to strop.train"
)
_OUT_OF_MEMORY = "micro_batch_tokens bounds the memory of a step without changing its result"
REFUSED = {
    "accelerator_config": _SEVERAL,
    "activation_offloading": "use the setting activations (offload)",
    "assistant_only_loss": _ANSWERS,
    "auto_find_batch_size": _OUT_OF_MEMORY,
    "bf16_full_eval": "held-out losses are computed as in training (bits)",
    "chat_template_path": _TEMPLATE,
    "completion_only_loss": _ANSWERS,
    "dataloader_drop_last": "the last step of an epoch takes the rows that are left",
    "dataset_kwargs": "strop prepares the rows (map, answers, max_length)",
    "dataset_text_field": "use the setting map (COLUMN=text)",
    "debug": "a run stops at the first loss that is not a number",
    "deepspeed": _SEVERAL,
    "enable_jit_checkpoint": "SIGTERM and Ctrl-C save a checkpoint in every run of strop",
    "eos_token": _TEMPLATE,
    "eval_packing": _PACKING,
    "fp16_full_eval": "held-out losses are computed as in training (bits)",
    "fsdp": _SEVERAL,
    "fsdp_config": _SEVERAL,
    "hub_always_push": _HUB,
    "hub_model_id": _HUB,
    "hub_private_repo": _HUB,
    "hub_revision": _HUB,
    "hub_strategy": _HUB,
    "hub_token": _HUB,
    "ignore_data_skip": _RESUME,
    "liger_kernel_config": _LIGER,
    "model_init_kwargs": "strop loads the model (model, bits)",
    "optim_target_modules": "an adapter is trained as it is; leave optimizers out that project gradients",
    "packing": _PACKING,
    "packing_strategy": _PACKING,
    "padding_free": "padding_free is not needed: strop computes no padding (accelerate)",
    "parallelism_config": _SEVERAL,
    "push_to_hub": _HUB,
    "report_to": "use the setting report_to, as in tensorboard,trackio",
    "resume_from_checkpoint": _RESUME,
    "save_only_model": _RESUME,
    "torch_compile": _COMPILE,
    "torch_compile_backend": _COMPILE,
    "torch_compile_mode": _COMPILE,
    "truncation_mode": "rows are cut at their end (max_length); shorten their beginnings in the data",
    "trust_remote_code": "strop runs no code that comes with a model",
    "use_liger_kernel": _LIGER,
} | dict.fromkeys(DECIDED, "")
"""Arguments that a run cannot take, each with strop's way."""

_ROWS = "rows lie in memory, encoded, before training starts"
_ONE_PROCESS = "a run is one process"
_LOSS_ONLY = "on held-out rows the loss is measured, and no predictions are collected"
_EVERY_STEP = "log.jsonl has a line for each step"
_NO_PADDING = "padding is neither computed nor learned"
_SCRIPTS = "only command-line scripts read it"
WITHOUT_EFFECT = {
    "average_tokens_across_devices": _ONE_PROCESS,
    "batch_eval_metrics": _LOSS_ONLY,
    "dataloader_in_order": _ROWS,
    "dataloader_multiprocessing_context": _ROWS,
    "dataloader_num_workers": _ROWS,
    "dataloader_persistent_workers": _ROWS,
    "dataloader_pin_memory": _ROWS,
    "dataloader_prefetch_factor": _ROWS,
    "dataset_num_proc": _ROWS,
    "ddp_backend": _ONE_PROCESS,
    "ddp_broadcast_buffers": _ONE_PROCESS,
    "ddp_bucket_cap_mb": _ONE_PROCESS,
    "ddp_find_unused_parameters": _ONE_PROCESS,
    "ddp_static_graph": _ONE_PROCESS,
    "ddp_timeout": _ONE_PROCESS,
    "disable_tqdm": "strop shows a bar of its own on a terminal; quiet hides it",
    "do_eval": _SCRIPTS,
    "do_predict": _SCRIPTS,
    "do_train": _SCRIPTS,
    "eval_accumulation_steps": _LOSS_ONLY,
    "eval_do_concat_batches": _LOSS_ONLY,
    "eval_on_start": "held-out rows are always measured before the first step",
    "eval_use_gather_object": _LOSS_ONLY,
    "include_for_metrics": _LOSS_ONLY,
    "include_num_input_tokens_seen": "log.jsonl counts the tokens of every step",
    "label_names": _LOSS_ONLY,
    "length_column_name": "the lengths of rows are counted",
    "local_rank": _ONE_PROCESS,
    "log_level_replica": _ONE_PROCESS,
    "log_on_each_node": _ONE_PROCESS,
    "logging_first_step": _EVERY_STEP,
    "logging_nan_inf_filter": "a run stops at the first loss that is not a number",
    "logging_steps": _EVERY_STEP,
    "logging_strategy": _EVERY_STEP,
    "pad_to_multiple_of": _NO_PADDING,
    "pad_token": _NO_PADDING,
    "prediction_loss_only": _LOSS_ONLY,
    "remove_unused_columns": "the rows that are trained on have no other columns",
    "restore_callback_states_from_checkpoint": "what a resumed run needs is restored in any case",
    "save_on_each_node": _ONE_PROCESS,
    "shuffle_dataset": "rows are shuffled in every epoch (seed)",
    "skip_memory_metrics": "log.jsonl and run.json have the memory",
    "use_cache": "training reads no cache",
    "use_cpu": "a model trains on the device it lies on",
}
"""Arguments that a run has no use for, each with the reason; they are not passed on."""

FORMER = {
    "evaluation_strategy": "eval_every",
    "group_by_length": "trainer.train_sampling_strategy=group_by_length",
    "logging_dir": "the run's folder (out)",
    "max_seq_length": "max_length",
    "no_cuda": "the device the model lies on",
    "overwrite_output_dir": "another out",
    "warmup_ratio": "warmup",
}
"""Names of earlier versions, with what says the same now."""

PREFERENCES = {
    "f_alpha_divergence_coef": "alpha of `f_divergence_type=alpha_divergence`",
    "f_divergence_type": "another divergence from the model at the start",
    "label_smoothing": "share of pairs that may be labelled wrongly (cDPO, robust)",
    "ld_alpha": "weight of what the longer answer has beyond the shorter one (LD-DPO)",
    "loss_type": "`sigmoid`, or another loss of pairs, such as `hinge`, `robust` or `apo_zero`",
    "loss_weights": "weights of several losses in `loss_type`",
    "use_weighting": "pairs weighed by how likely the model is to write them (WPO)",
}
"""Arguments of TRL's DPOConfig alone."""

_SAMPLED = {
    "epsilon": "how far a ratio may leave 1 before it is clipped, 0.2 without it",
    "epsilon_high": "the same above 1",
    "mask_truncated_completions": "answers that did not end are not learned from",
    "min_p": "answers are drawn among tokens at least this share as likely as the likeliest",
    "num_iterations": "updates on the same answers, 1 without it",
    "repetition_penalty": "of drawn answers",
    "top_k": "answers are drawn among this many likeliest tokens",
    "top_p": "answers are drawn among the likeliest tokens of this probability together",
}

BY_METHOD = {
    "sft": {},
    "text": {},
    "dpo": PREFERENCES,
    "ipo": PREFERENCES,
    "kto": {
        "desirable_weight": "weight of desirable answers, 1 without it",
        "loss_type": "`kto`, or `apo_zero_unpaired`",
        "undesirable_weight": "weight of undesirable answers, 1 without it",
    },
    "orpo": {},
    "simpo": {
        "alpha": "shape of the rewards (AlphaPO), 0 without it",
        "cpo_alpha": "weight of the chosen answers' likelihood (CPO-SimPO), 0 without it",
        "label_smoothing": "share of pairs that may be labelled wrongly",
        "simpo_gamma": "lead that a chosen answer is to have, half of beta without it",
    },
    "reward": {
        "center_rewards_coefficient": "pulls rewards towards a mean of 0, 0.01 in its paper",
    },
    "distill": {
        "seq_kd": "where the student draws none, the teacher draws the answers of each step",
    },
    "grpo": _SAMPLED
    | {
        "delta": "bound of the ratio of answers that are worse than their group",
        "entropy_coef": "weight of the entropy bonus, 0 without it",
        "importance_sampling_level": "`token`, or `sequence` (GSPO)",
        "loss_type": "`dapo`, or another loss of GRPO, such as `grpo`, `dr_grpo` or `cispo`",
        "scale_rewards": "`group`, `batch` or `none`: what advantages are divided by",
        "top_entropy_quantile": "share of tokens, by entropy, that are learned from, 1 without it",
    },
    "rloo": _SAMPLED
    | {
        "normalize_advantages": "advantages are divided by their deviation in the batch",
        "reward_clip_range": "lowest and highest reward",
    },
}
"""Arguments that a method takes besides those of SFTConfig, by method."""

LOSSES = {
    "sft": ("nll", "dft", "chunked_nll"),
    "text": ("nll",),
    "dpo": (
        "sigmoid", "hinge", "robust", "exo_pair", "nca_pair", "bco_pair", "sppo_hard", "aot",
        "aot_unpaired", "apo_zero", "apo_down", "discopop", "sigmoid_norm", "sft",
    ),
    "ipo": (),
    "kto": ("kto", "apo_zero_unpaired"),
    "orpo": (),
    "simpo": (),
    "reward": (),
    "distill": (),
    "grpo": ("grpo", "dr_grpo", "dapo", "bnpo", "cispo", "sapo", "luspo", "vespo"),
    "rloo": (),
}  # fmt: skip
"""Values of `loss_type` by method."""

TRACKED = (
    "project",
    "run_name",
    "trackio_bucket_id",
    "trackio_space_id",
    "trackio_static_space_id",
)
"""Arguments of the trainer that only trackers read."""

TRACKERS = {
    "tensorboard": (("tensorboard",), "'strop[tensorboard]'"),
    "trackio": (("trackio",), "'strop[trackio]'"),
    "wandb": (("wandb",), "wandb"),
    "mlflow": (("mlflow",), "mlflow"),
    "clearml": (("clearml",), "clearml"),
    "codecarbon": (("codecarbon",), "codecarbon"),
    "comet_ml": (("comet_ml",), "comet_ml"),
    "dagshub": (("dagshub",), "dagshub mlflow"),
    "dvclive": (("dvclive",), "dvclive"),
    "neptune": (("neptune",), "neptune"),
    "swanlab": (("swanlab",), "swanlab"),
}
"""Trackers of transformers: modules of which one must be there, and what pip installs for it."""
