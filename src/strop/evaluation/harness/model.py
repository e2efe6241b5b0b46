"""A model as lm-evaluation-harness calls it, computed by the scorer and the sampler.

The harness's own `HFLM` keeps everything that decides a result: how context and continuation are
tokenized, where a prompt is cut off, the chat template, how a text is divided for its perplexity. What
is replaced is the computing: every prefix that requests share is computed once, and answers are
sampled in one continuous batch.
"""

import contextlib
import logging
import sys
from collections.abc import Sequence
from typing import Any

from lm_eval.models.huggingface import HFLM
from lm_eval.models.utils import (
    handle_stop_sequences,
    normalize_gen_kwargs,
    postprocess_generated_text,
)

from strop.core.progress import Progress, silent
from strop.core.quiet import log_level
from strop.core.tokens import IGNORE_INDEX
from strop.evaluation.scoring import score_tokens
from strop.models.sampling import Sampling, sample

_WINDOWS = 256
"""Windows of long texts that the harness hands over at once."""
_SETTINGS = ("temperature", "top_k", "top_p", "min_p", "repetition_penalty")


class HarnessModel(HFLM):
    """A causal language model and its tokenizer as the harness calls them."""

    def __init__(self, model: Any, tokenizer: Any, progress: Progress = silent) -> None:
        """Take over a loaded model.

        Args:
            model: a transformers or PEFT causal language model.
            tokenizer: its tokenizer; gets a pad token where it has none.
            progress: called while requests are scored and answers generated.
        """
        with log_level("lm_eval", logging.CRITICAL):
            super().__init__(
                pretrained=model, tokenizer=tokenizer, backend="causal", batch_size=_WINDOWS
            )
        self.progress = progress
        self.stderr = sys.stderr
        """Where progress is shown, also while the harness's own bars are not."""

    def _loglikelihood_tokens(
        self,
        requests: Sequence[tuple[Any, list[int], list[int]]],
        disable_tqdm: bool = False,
        override_bs: int | None = None,
    ) -> list[tuple[float, bool]]:
        """Return of each request the log-probability of its continuation, and if it is the likeliest.

        Args:
            requests: texts (None for a window), ids of the context, ids of the continuation; the
                context loses its beginning where both are longer than the model takes.
            disable_tqdm: as the harness calls it.
            override_bs: as the harness calls it.
        """
        examples = []
        for _, context, continuation in requests:
            ids = (context + continuation)[-(self.max_length + 1) :]
            unasked = [IGNORE_INDEX] * (len(ids) - len(continuation))
            examples.append((ids, unasked + continuation))
        with contextlib.redirect_stderr(self.stderr):
            scored = score_tokens(self.model, examples, progress=self.progress)
        results = []
        for request, tokens in zip(requests, scored, strict=True):
            result = (float(tokens.log_probs.sum()), bool(tokens.is_top1.all()))
            results.append(result)
            if request[0] is not None:
                self.cache_hook.add_partial("loglikelihood", request[0], result)
        return results

    def generate_until(
        self,
        requests: Sequence[Any],
        disable_tqdm: bool = False,
    ) -> list[str]:
        """Return the answer to each request, up to the first of its stop texts.

        Requests with settings that the sampler does not know, beams for instance, go through
        transformers as the harness sends them.
        """
        plans = [self._plan(*request.args) for request in requests]
        if any(plan is None for plan in plans):
            answers: list[str] = super().generate_until(requests, disable_tqdm)
            return answers
        prompts, settings = zip(*(plan for plan in plans if plan is not None), strict=True)
        with contextlib.redirect_stderr(self.stderr):
            sampled = sample(self.model, self.tokenizer, prompts, settings, progress=self.progress)
        results = []
        for request, setting, answer in zip(requests, settings, sampled, strict=True):
            text = postprocess_generated_text(answer.text, list(setting.stop), None)
            results.append(text)
            self.cache_hook.add_partial("generate_until", request.args, text)
        return results

    def _plan(self, context: str, given: dict[str, Any]) -> tuple[list[int], Sampling] | None:
        """Return ids and settings of a request, or None where the sampler does not know them all."""
        kwargs = normalize_gen_kwargs(given, self.max_gen_toks)
        eos = self.tok_decode(self.eot_token_id, skip_special_tokens=False)
        stop = handle_stop_sequences(kwargs.pop("until", None), eos=eos)
        longest = kwargs.pop("max_gen_toks")
        drawn = kwargs.pop("do_sample", False)
        chosen = {name: kwargs.pop(name) for name in _SETTINGS if name in kwargs}
        if kwargs or longest >= self.max_length:
            return None
        if not drawn:
            chosen = {k: v for k, v in chosen.items() if k == "repetition_penalty"}
        elif "temperature" not in chosen:
            chosen["temperature"] = 1.0
        ids, _ = self.tok_batch_encode([context], left_truncate_len=self.max_length - longest)
        settings = Sampling(
            max_new_tokens=longest, stop=tuple(text for text in stop if text), **chosen
        )
        return ids[0].tolist(), settings
