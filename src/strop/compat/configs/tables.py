"""What keys of other tools' configurations are called here, and what stands for those without a name.

Keys that need others beside them (batch, bits, method, data, warm-up, layers) are in `composed.py`.
"""

RENAMED = {
    "axolotl": {
        "base_model": "model",
        "output_dir": "out",
        "sequence_len": "max_length",
        "val_set_size": "held_out",
        "lora_r": "rank",
        "lora_alpha": "alpha",
        "lora_dropout": "dropout",
        "peft_use_dora": "use_dora",
        "peft_use_rslora": "use_rslora",
        "loraplus_lr_ratio": "loraplus_lr_ratio",
        "lora_model_dir": "continue_from",
        "num_epochs": "epochs",
        "max_steps": "max_steps",
        "learning_rate": "learning_rate",
        "weight_decay": "weight_decay",
        "max_grad_norm": "max_grad_norm",
        "save_steps": "save_every",
        "eval_steps": "eval_every",
        "seed": "seed",
        "early_stopping_patience": "early_stopping_patience",
        "load_best_model_at_end": "load_best_model_at_end",
        "metric_for_best_model": "metric_for_best_model",
        "rl_beta": "beta",
        "dpo_beta": "beta",
        "orpo_alpha": "beta",
    },
    "llama-factory": {
        "model_name_or_path": "model",
        "output_dir": "out",
        "cutoff_len": "max_length",
        "val_size": "held_out",
        "lora_rank": "rank",
        "lora_alpha": "alpha",
        "lora_dropout": "dropout",
        "use_dora": "use_dora",
        "use_rslora": "use_rslora",
        "loraplus_lr_ratio": "loraplus_lr_ratio",
        "adapter_name_or_path": "continue_from",
        "num_train_epochs": "epochs",
        "max_steps": "max_steps",
        "learning_rate": "learning_rate",
        "weight_decay": "weight_decay",
        "max_grad_norm": "max_grad_norm",
        "save_steps": "save_every",
        "eval_steps": "eval_every",
        "seed": "seed",
        "pref_beta": "beta",
        "load_best_model_at_end": "load_best_model_at_end",
        "metric_for_best_model": "metric_for_best_model",
    },
    "unsloth": {
        "model": "model",
        "model_name": "model",
        "output_dir": "out",
        "max_seq_length": "max_length",
        "lora_r": "rank",
        "lora_alpha": "alpha",
        "lora_dropout": "dropout",
        "use_dora": "use_dora",
        "use_rslora": "use_rslora",
        "num_epochs": "epochs",
        "max_steps": "max_steps",
        "learning_rate": "learning_rate",
        "weight_decay": "weight_decay",
        "save_steps": "save_every",
        "eval_steps": "eval_every",
        "random_seed": "seed",
    },
}
"""By tool: its key, and the setting of the same meaning."""

TO_TRAINER = {
    "optimizer": "optim",
    "optim": "optim",
    "adam_beta1": "adam_beta1",
    "adam_beta2": "adam_beta2",
    "adam_epsilon": "adam_epsilon",
    "neftune_noise_alpha": "neftune_noise_alpha",
    "noisy_embedding_alpha": "neftune_noise_alpha",
    "save_total_limit": "save_total_limit",
    "tf32": "tf32",
}
"""Keys that are arguments of TRL's configuration, for the setting `trainer`."""

ZERO_IS_NONE = ("epochs", "max_steps", "save_every", "eval_every", "max_length")
"""Settings for which other tools write 0 or -1 where nothing is set."""

_STEP = "each token is computed once, without padding"
_MEMORY = "activations and --memory decide what is kept"
_CARDS = "strop trains in one process"
_WEIGHTS = "weights are safetensors, and no code of a model runs"
_PROGRESS = "every step is in log.jsonl, and the curve in report.html"
_HUB = "strop export and strop push upload a run, once it is certified"
UNNEEDED = {
    **dict.fromkeys(
        (
            *(
                "sample_packing",
                "eval_sample_packing",
                "pad_to_sequence_len",
                "packing",
                "neat_packing",
            ),
            *("group_by_length", "max_packed_sequence_len", "sample_packing_eff_est"),
            *("flash_attention", "attn_implementation", "flash_attn", "xformers_attention"),
            *(
                "sdp_attention",
                "liger_rope",
                "liger_rms_norm",
                "liger_glu_activation",
                "eager_attention",
            ),
            *("liger_layer_norm", "liger_fused_linear_cross_entropy", "enable_liger_kernel"),
            *("use_kernels", "lora_mlp_kernel", "lora_qkv_kernel", "lora_o_kernel", "use_unsloth"),
            *(
                "torch_compile",
                "fused_attn_kernel",
                "cut_cross_entropy",
                "plugins",
                "use_unsloth_gc",
            ),
            *("flex_attn_compile_kwargs", "liger_rms_norm_gated", "experts_implementation"),
        ),
        _STEP,
    ),
    **dict.fromkeys(
        (
            *("gradient_checkpointing", "gradient_checkpointing_kwargs", "activation_offloading"),
            *("disable_gradient_checkpointing", "gpu_memory_limit", "use_reentrant_gc"),
        ),
        _MEMORY,
    ),
    **dict.fromkeys(
        (
            *("fsdp", "fsdp_config", "fsdp_version", "deepspeed", "ddp_timeout", "dp_shard_size"),
            *("ddp_find_unused_parameters", "context_parallel_size", "preprocessing_num_workers"),
            *("dataset_processes", "dataloader_num_workers", "dataset_num_proc", "ddp_backend"),
            *("tensor_parallel_size", "sequence_parallel_degree", "dataloader_pin_memory"),
            *("dataloader_prefetch_factor", "torchdistx_path"),
        ),
        _CARDS,
    ),
    **dict.fromkeys(
        (
            *("save_safetensors", "trust_remote_code", "tokenizer_type", "model_type"),
            *("is_llama_derived_model", "is_mistral_derived_model", "tokenizer_use_fast"),
            *(
                "use_fast_tokenizer",
                "low_cpu_mem_usage",
                "bf16",
                "fp16",
                "pure_bf16",
                "upcast_layernorm",
            ),
            *(
                "lora_fan_in_fan_out",
                "experimental_skip_move_to_device",
                "infer_backend",
                "float16",
            ),
        ),
        _WEIGHTS,
    ),
    **dict.fromkeys(
        (
            *("logging_steps", "plot_loss", "logging_strategy", "include_tokens_per_second"),
            *(
                "include_num_input_tokens_seen",
                "debug",
                "log_level",
                "disable_tqdm",
                "eval_strategy",
            ),
            *("evaluation_strategy", "save_strategy", "save_only_model", "save_first_step"),
            *("overwrite_output_dir", "overwrite_cache", "dataset_prepared_path", "strict"),
            *("do_train", "do_eval", "shuffle_merged_datasets", "dataset_keep_in_memory"),
            *("remove_unused_columns", "skip_prepare_dataset", "loss_watchdog_threshold"),
            *(
                "loss_watchdog_patience",
                "eval_batch_size",
                "per_device_eval_batch_size",
                "report_to",
            ),
            *(
                "cache_dir",
                "finetune_language_layers",
                "vision_all_linear",
                "use_gradient_checkpointing",
            ),
            *("tokenized_path", "eval_table_size", "eval_max_new_tokens", "do_causal_lm_eval"),
        ),
        _PROGRESS,
    ),
    **dict.fromkeys(
        (
            *(
                "hub_model_id",
                "hub_strategy",
                "push_to_hub",
                "push_dataset_to_hub",
                "hf_use_auth_token",
            ),
            *("hf_token", "hub_token", "hf_hub_token"),
        ),
        _HUB,
    ),
}
"""Keys that ask for what strop does anyway, or otherwise, each with it."""

_TRACKER = "give --report-to trackio or tensorboard; nothing is sent unless asked for"
_IMAGES = "strop trains language models; images, sound and video are not read"
ABSENT = {
    **dict.fromkeys(
        (
            *("wandb_project", "wandb_entity", "wandb_watch", "wandb_name", "wandb_log_model"),
            *("wandb_run_id", "wandb_mode", "wandb_token", "enable_wandb", "mlflow_tracking_uri"),
            *("enable_tensorboard", "tensorboard_dir", "use_mlflow", "use_comet", "run_name"),
            *("trackio_project_name", "trackio_run_name", "trackio_space_id", "use_tensorboard"),
        ),
        _TRACKER,
    ),
    **dict.fromkeys(
        (
            *("image_max_pixels", "video_max_pixels", "freeze_vision_tower", "processor_type"),
            *("freeze_multi_modal_projector", "freeze_language_model"),
            *("video_maxlen", "video_fps", "image_min_pixels", "audio_sampling_rate", "image_size"),
            *("image_resize_algorithm", "is_dataset_image"),
        ),
        _IMAGES,
    ),
    "resume_from_checkpoint": "strop train --resume RUN goes on",
    "auto_resume_from_checkpoints": "strop train --resume RUN goes on",
    "special_tokens": "tokens are those of the tokenizer; a pad token is chosen that ends nothing",
    "tokens": "--add-tokens FILE, a token on each line, with --train-embeddings true",
    "added_tokens_overrides": "tokens are those of the tokenizer; change them in its folder",
    "eot_tokens": "the tokens that end an answer are read off the chat template",
    "chat_template": "the model's own, else that of its family; strop models shows which",
    "chat_template_jinja": "put it into the model's folder as chat_template.jinja",
    "template": "the model's own, else that of its family; strop models shows which",
    "default_system": "write the system message into the rows",
    "train_on_prompt": "only answers are learned; rows of `text` are learned whole",
    "lora_modules_to_save": "--train-embeddings true trains embeddings and head beside the adapter",
    "additional_target": "--train-embeddings true trains embeddings and head beside the adapter",
    "unfrozen_parameters": "--adapter none trains all weights but those of --freeze",
    "relora_steps": "merge the adapter (strop export RUN --to merged) and train on that",
    "use_loftq": "strop quantize --adapter-rank R, then --lora-init quantization_error",
    "loftq_config": "strop quantize --adapter-rank R, then --lora-init quantization_error",
    "peft": "strop quantize --adapter-rank R, then --lora-init quantization_error",
    "pissa_init": "--lora-init pissa",
    "use_galore": "an adapter is trained, whose optimizer state is small",
    "use_apollo": "an adapter is trained, whose optimizer state is small",
    "use_badam": "an adapter is trained, whose optimizer state is small",
    "use_adam_mini": "an adapter is trained, whose optimizer state is small",
    "rope_scaling": "set it in config.json of the model; rows are not stretched",
    "overrides_of_model_config": "change config.json of the model",
    "model_config": "change config.json of the model",
    "gptq": "--bits 4 quantises; a folder of strop or bitsandbytes opens as it is",
    "qat": "--bits 4 trains on the weights that it quantised",
    "max_samples": "give a file of fewer rows, or --max-steps",
    "cosine_min_lr_ratio": "--trainer lr_scheduler_kwargs with --schedule cosine",
    "lr_scheduler_kwargs": "--trainer lr_scheduler_kwargs",
    "evaluation_metrics": "--eval-metrics",
    "reward_model": "--reward RUN, a run of --method reward",
    "format_type": "the form of the rows is recognised",
    "dataset_dir": "files are named in data",
    "tokenizer_config": "the tokenizer is that of the model's folder",
    "revision_of_model": "give the folder of the revision",
    "ref_model": "the reference is the model without its adapter",
    "rl_adapter_ref_model": "the reference is the model without its adapter",
    "pref_ftx": "train on answers first, then on pairs with --continue-from",
    "dpo_label_smoothing": "--trainer label_smoothing",
    "quantization_method": "--bits 4 quantises by strop's own method",
    "quantization_type": "--bits 4 quantises by strop's own method",
    "double_quantization": "--bits 4 quantises by strop's own method",
    "test_datasets": "strop eval RUN FILE measures on it",
    "eval_dataset": "strop eval RUN FILE measures on it",
    "mix_strategy": "files have weights: --data a.jsonl,b.jsonl:0.5",
    "interleave_probs": "files have weights: --data a.jsonl,b.jsonl:0.5",
}
"""Keys of what a run of strop has not, or has elsewhere, each with the way."""
