"""A small tokenizer and the chat templates that packages carry."""

from pathlib import Path

import trl
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

SPECIALS = [
    *("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<start_of_turn>", "<end_of_turn>", "<bos>"),
    *("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<|begin_of_text|>", "</s>", "<s>"),
    *("<|user|>", "<|assistant|>", "<|system|>", "<|end|>", "[INST]", "[/INST]"),
]
CORPUS = [
    "The quick brown fox jumps over the lazy dog. positive negative neutral",
    "system\nuser\nassistant\nmodel\n\nYou are a helpful assistant.\n\n\n  indented   words\n",
    "Ünïcödé 漢字 🙂 <think>\n\n</think>\n\n hello hello world world im_start im_end",
] * 20

SMOLLM2 = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are a helpful AI assistant named SmolLM<|im_end|>\n' }}{% endif %}"
    "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def small_tokenizer(*, trim_offsets: bool = True, specials=SPECIALS) -> PreTrainedTokenizerFast:
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.post_processor = processors.ByteLevel(trim_offsets=trim_offsets)
    specials = [AddedToken(s, special=True, normalized=False) for s in specials]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=600, special_tokens=specials, initial_alphabet=alphabet, show_progress=False
    )
    backend.train_from_iterator(CORPUS, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, eos_token="<|endoftext|>", bos_token="<s>", name_or_path="small"
    )


def packaged_template(name: str) -> str:
    if name == "smollm2":
        return SMOLLM2
    return (Path(trl.__file__).parent / "chat_templates" / f"{name}.jinja").read_text("utf-8")
