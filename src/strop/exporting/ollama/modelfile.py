"""Ollama's Modelfile: written from the chat template and end tokens of training, and read back."""

import json
import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from strop.core.errors import DataError
from strop.core.files import reading
from strop.data.encoding.templates import template_of
from strop.exporting.gguf.vocabulary import vocabulary
from strop.exporting.ollama import go_template
from strop.exporting.ollama.chat_segments import ChatSegments, chat_segments, trims, writes_tools
from strop.models.assets import ModelAssets

FILE = "Modelfile"
_NO_TOOLS = (
    "The chat template of training writes tools and their calls; this one does not, so Ollama says that "
    "the model does not support tools. Serve the GGUF file by strop serve or llama-server for them."
)

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Modelfile:
    """Contents of a Modelfile."""

    model: str
    """The GGUF file, beside the Modelfile."""
    template: str
    """Go's text/template."""
    stops: list[str]
    """Texts that end an answer."""
    adapter: str | None = None
    """GGUF file of an adapter over the model."""
    parameters: dict[str, float] = field(default_factory=dict)
    """Parameters of sampling."""
    remarks: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, assets: ModelAssets, model: str, adapter: str | None = None) -> "Modelfile":
        """Return the Modelfile of a model.

        Args:
            assets: of the trained model.
            model: the GGUF file's name.
            adapter: the GGUF adapter's name, if the model is only its base.

        Raises:
            UnsupportedError: its chat template does more than Ollama's can.
        """
        tokenizer = assets.tokenizer
        segments = chat_segments(tokenizer)
        if vocabulary(assets, assets.text_config.vocab_size)["tokenizer.ggml.add_bos_token"]:
            segments = segments.without(tokenizer.bos_token)  # llama.cpp puts it there
        remarks = []
        if trims(tokenizer):
            remarks.append("In training, white space around messages was dropped; here it stays.")
        if "strftime_now" in (template_of(tokenizer) or ""):
            remarks.append("The date in the template is that of the export.")
        if segments.system is None:
            remarks.append("The model was trained on a template without system messages.")
        if writes_tools(tokenizer):
            remarks.append(_NO_TOOLS)
            logger.warning("Modelfile: %s", _NO_TOOLS)
        stops = [str(tokenizer.convert_ids_to_tokens(i)) for i in assets.ends]
        settings = _sampling(assets.generation_config)
        return cls(model, go_text(segments), stops, adapter, settings, remarks)

    def text(self) -> str:
        """Return the file's text."""
        lines = [f"# {remark}" for remark in self.remarks]
        lines.append(f"FROM ./{self.model}")
        if self.adapter:
            lines.append(f"ADAPTER ./{self.adapter}")
        lines.append(f'TEMPLATE """{self.template}"""')
        lines += [f"PARAMETER stop {_quoted(stop)}" for stop in self.stops]
        lines += [f"PARAMETER {name} {value:g}" for name, value in self.parameters.items()]
        return "\n".join(lines) + "\n"

    @classmethod
    def read(cls, file: Path) -> "Modelfile":
        """Read what `text` wrote.

        Raises:
            DataError: it lacks its model or its template.
        """
        with reading(file, "export it again"):
            text = file.read_text(encoding="utf-8")
        entries: dict[str, list[str]] = {}
        line = r'^(FROM|ADAPTER|TEMPLATE|PARAMETER stop) +(?:"""(.*?)"""|"([^"\n]*)"|([^"\n]+))$'
        for name, *values in re.findall(line, text, flags=re.DOTALL | re.MULTILINE):
            entries.setdefault(name, []).append("".join(values))  # one of them is not empty
        if absent := [name for name in ("FROM", "TEMPLATE") if name not in entries]:
            raise DataError(f"{file} has no {absent[0]}")
        model, *adapter = (
            path.removeprefix("./") for path in (*entries["FROM"], *entries.get("ADAPTER", []))
        )
        return cls(
            model,
            entries["TEMPLATE"][0],
            entries.get("PARAMETER stop", []),
            adapter[0] if adapter else None,
        )

    def render(self, messages: Sequence[dict[str, str]]) -> str:
        """Return a chat as Ollama would give it to llama.cpp.

        Raises:
            DataError: the template is damaged.
        """
        system = "\n\n".join(m["content"] for m in messages if m["role"] == "system")
        listed = [{"Role": m["role"], "Content": m["content"]} for m in messages]
        return go_template.render(self.template, {"System": system, "Messages": listed})


def go_text(segments: ChatSegments) -> str:
    """Return turns as a Go template over Ollama's `.System` and `.Messages`."""
    last = "{{ if eq (len (slice $.Messages $i)) 1 }}"
    first = _with_system(_literal(segments.start), segments.system)
    between = _literal(segments.between)
    if segments.system_last is not None:  # the system message stands before the last question
        first = f"{last}{first}{{{{ else }}}}{_literal(segments.start)}{{{{ end }}}}"
        moved = _with_system(between, segments.system_last)
        between = f"{last}{moved}{{{{ else }}}}{between}{{{{ end }}}}"
    return (
        "{{ $first := true }}{{ range $i, $message := .Messages }}"
        '{{ if eq .Role "user" }}'
        f"{{{{ if $first }}}}{first}{{{{ else }}}}{between}{{{{ end }}}}"
        "{{ $first = false }}{{ .Content }}"
        f"{last}{_literal(segments.end)}{{{{ else }}}}{_literal(segments.answer)}{{{{ end }}}}"
        '{{ else if eq .Role "assistant" }}{{ .Content }}{{ end }}{{ end }}'
    )


def _with_system(without: str, around: tuple[str, str] | None) -> str:
    if around is None:
        return without
    before, after = map(_literal, around)
    with_system = f"{before}{{{{ $.System }}}}{after}"
    return f"{{{{ if $.System }}}}{with_system}{{{{ else }}}}{without}{{{{ end }}}}"


def _literal(text: str) -> str:
    """Return a text as a Go template has it: what would mean something else is quoted."""
    special = r'\{+|"""|\r'
    return re.sub(special, lambda m: f"{{{{ {json.dumps(m[0])} }}}}", text)


def _quoted(text: str) -> str:
    return f'"""{text}"""' if '"' in text or "\n" in text else f'"{text}"'


def _sampling(config: Any) -> dict[str, float]:
    """Return Ollama's names of the settings that the model is generated with."""
    settings = {"repeat_penalty": config.repetition_penalty or 1.0}
    if config.do_sample:
        settings |= {name: getattr(config, name) for name in ("temperature", "top_p", "top_k")}
    return {name: float(value) for name, value in settings.items() if value is not None}
