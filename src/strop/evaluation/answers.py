"""What a model writes when it is asked."""

from collections.abc import Callable, Sequence
from typing import Any

import torch


class _Streamer:
    """Takes tokens as `generate` makes them and passes on the text that is certain."""

    def __init__(self, tokenizer: Any, say: Callable[[str], None]) -> None:
        self.tokenizer, self.say = tokenizer, say
        self.ids: list[int] = []
        self.said = ""
        self.prompt_seen = False

    def put(self, tokens: torch.Tensor) -> None:
        """Take the prompt first, then each new token."""
        if not self.prompt_seen:
            self.prompt_seen = True
            return
        self.ids += tokens.flatten().tolist()
        text = self.tokenizer.decode(self.ids, skip_special_tokens=True)
        if not text.endswith("\ufffd"):  # half of a character: the next token has the rest
            self.say(text[len(self.said) :])
            self.said = text

    def end(self) -> None:
        """Pass on what was held back."""
        text = self.tokenizer.decode(self.ids, skip_special_tokens=True)
        self.say(text[len(self.said) :])
        self.said = text


@torch.no_grad()
def answer(
    model: Any,
    tokenizer: Any,
    messages: Sequence[dict[str, str]],
    *,
    max_tokens: int = 256,
    say: Callable[[str], None] = lambda text: None,
) -> str:
    """Return the model's most likely next message, token by token.

    Args:
        model: a causal language model with `generate`.
        tokenizer: with a chat template, else the contents are joined as plain text.
        messages: the talk so far; the last one is the user's.
        max_tokens: the longest answer.
        say: is given each new piece of text as it is made.
    """
    if tokenizer.chat_template:
        text = tokenizer.apply_chat_template(
            list(messages), add_generation_prompt=True, tokenize=False
        )
        ids = tokenizer(text, add_special_tokens=False, return_tensors="pt").input_ids
    else:
        joined = "\n".join(message["content"] for message in messages)
        ids = tokenizer(joined, return_tensors="pt").input_ids
    ids = ids.to(next(model.parameters()).device)
    streamer = _Streamer(tokenizer, say)
    model.generate(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=max_tokens,
        do_sample=False,
        temperature=None,
        top_p=None,
        top_k=None,
        pad_token_id=tokenizer.pad_token_id or tokenizer.eos_token_id,
        streamer=streamer,
    )
    return streamer.said
