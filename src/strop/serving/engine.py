"""llama.cpp's own server, in this process, on a loopback port that the system chooses."""

import hashlib
import importlib.metadata
import json
import os
import secrets
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import psutil

from strop.core import env
from strop.core.digest import file_digest
from strop.core.errors import ConfigError, DataError, UnsupportedError
from strop.core.files import read_cached, reading, write_cached
from strop.core.system.processes import ending
from strop.data.encoding.template import ChatTemplate
from strop.data.encoding.templates import on_day
from strop.serving.rendering import check_rendering
from strop.serving.targets import check_installed

CONTEXT = 4096
"""Tokens a conversation may have by default."""

_HTTP_THREADS = 64
"""Requests the engine holds at once; those beyond its slots wait."""

_PROMPTS_MIB = 1024
"""Memory for what is computed of prompts that may come again; llama.cpp's own limit is 8 GiB."""


SECONDS = 120
"""Time in which llama.cpp renders a question by the template of a file that is tried."""
RATE = 20_000_000
"""Bytes a second of a file that is opened meanwhile."""
ROOM = 4 * 2**30
"""Memory for a rendering in which a file is tried."""
_TOO_LONG = getattr(signal, "SIGALRM", 0)

_NAME = "Zq7tool"
_TOOL = {
    "type": "function",
    "function": {
        "name": _NAME,
        "description": "?",
        "parameters": {"type": "object", "properties": {}},
    },
}


class Engine:
    """One GGUF file, opened by llama.cpp.

    Args:
        file: the model.
        adapters: GGUF adapters over it; a request chooses among them.
        context: tokens a conversation may have; the model's own context where that is shorter.
        slots: conversations answered at the same time.
        day: that the chat template writes as today's; None for today.
        trying: this process is the child that tries the files, where time and memory of opening them
            and of rendering a chat by their template are limited.

    Raises:
        ConfigError: the context is too long.
        MissingPackageError: xllamacpp is not installed.
        DataError: llama.cpp cannot open a file.
    """

    def __init__(
        self,
        file: Path,
        *,
        adapters: Sequence[Path] = (),
        context: int = CONTEXT,
        slots: int = 4,
        day: date | None = None,
        trying: bool = False,
    ) -> None:
        check_installed("xllamacpp")
        if context * slots >= 2**31:
            raise ConfigError(
                f"context {context} for {slots} conversations at once is more than llama.cpp can "
                "count; ask for less, as the model's own context"
            )
        self.file = file
        self.slots = slots
        self._key = secrets.token_urlsafe(24)
        """Its port is open to every program and every web page here; the key to this process."""
        if trying:
            _limit(file)
        else:
            _try_in_child(file, adapters, context, slots)
        self._server = _opened(file, adapters, context, slots, self._key)
        if trying:
            _limit()
        self._read("/lora-adapters")  # by its loop; one that is stopped before it runs never ends
        self.template = _template(self._read("/props"), day)
        template = self.template.source
        if day is not None and (dated := on_day(template, day)) != template:
            del self._server  # its mapped file is still in memory
            self._server = _opened(file, adapters, context, slots, self._key, dated)
            self._read("/lora-adapters")
        meta = self._read("/v1/models")["data"][0].get("meta") or {}
        self.context = min(context, meta.get("n_ctx_train") or context)  # as llama.cpp limits it
        self.adapters = len(adapters)
        self.writes_tools = self._renders(tools=[_TOOL])
        self.writes_calls = self._renders(called=True)

    @property
    def address(self) -> str:
        """Address it listens on, as `http://127.0.0.1:PORT`."""
        return str(self._server.listening_address)

    @property
    def headers(self) -> dict[str, str]:
        """Headers that every request to it needs."""
        return {"Authorization": f"Bearer {self._key}", "Content-Type": "application/json"}

    def close(self) -> None:
        """Stop listening and let the model go."""
        del self._server

    def weights_of(self, adapter: int | None) -> list[dict[str, Any]]:
        """Return what a request says to use one of the adapters, or none of them."""
        return [{"id": i, "scale": float(i == adapter)} for i in range(self.adapters)]

    def reply(
        self, messages: Sequence[dict[str, Any]], *, max_tokens: int, adapter: int | None = None
    ) -> Iterator[str]:
        """Yield the pieces of the likeliest answer to a chat as they are made.

        Args:
            messages: the chat.
            max_tokens: the longest answer.
            adapter: which of the adapters answers; None is the model without any.

        Raises:
            DataError: rendering the chat takes too much.
            UnsupportedError: llama.cpp refuses the chat; the text says why.
        """
        check_rendering(self.template, messages)
        body: dict[str, Any] = {
            "messages": list(messages),
            "max_tokens": max_tokens,
            "temperature": 0,
            "stream": True,
        }
        if self.adapters:
            body["lora"] = self.weights_of(adapter)
        try:
            with self._open("/v1/chat/completions", body) as answer:
                for line in answer:
                    if line.startswith(b"data: {"):
                        yield from _texts(json.loads(line[len(b"data: ") :]))
        except urllib.error.HTTPError as e:
            raise UnsupportedError(f"llama.cpp refuses the chat: {_reason(e.read())}") from e

    def _renders(self, *, tools: Sequence[Any] = (), called: bool = False) -> bool:
        """Return whether the chat template writes a tool, or the call of one."""
        question: dict[str, Any] = {"role": "user", "content": "?"}
        messages = [question]
        if called:
            call = {"name": _NAME, "arguments": "{}"}
            calls = [{"id": "call00000", "type": "function", "function": call}]
            answer = {"role": "assistant", "content": "", "tool_calls": calls}
            result = {"role": "tool", "tool_call_id": "call00000", "content": "1"}
            messages = [question, answer, result]
        body = {"messages": messages, **({"tools": list(tools)} if tools else {})}
        try:
            return _NAME in self._read("/apply-template", body)["prompt"]
        except urllib.error.HTTPError:  # many templates refuse what they have no place for
            return False

    def _read(self, route: str, body: dict[str, Any] | None = None) -> Any:
        """Return the JSON that a route answers with."""
        with self._open(route, body) as answer:
            return json.loads(answer.read())

    def _open(self, route: str, body: dict[str, Any] | None = None) -> Any:
        """Return the answer of a route as a stream: to a POST of `body`, or to a GET without one."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.address + route, data, self.headers)
        return urllib.request.urlopen(request)


def _template(properties: dict[str, Any], day: date | None) -> ChatTemplate:
    variables = {name: properties.get(name, "") for name in ("bos_token", "eos_token")}
    return ChatTemplate(properties["chat_template"], variables, "the chat template", day)


def _texts(event: dict[str, Any]) -> Iterator[str]:
    for choice in event.get("choices", ()):
        if text := choice["delta"].get("content"):
            yield text


def _reason(body: bytes) -> str:
    return str(json.loads(body)["error"]["message"])


def _try_in_child(file: Path, adapters: Sequence[Path], context: int, slots: int) -> None:
    """Open files in a child process first: at some damage llama.cpp ends the process it is in.

    Files that a child opened are not tried again.

    Raises:
        DataError: the child died.
    """
    digests = [file_digest(path) for path in (file, *adapters)]
    key = {"files": digests, "context": context, "slots": slots}
    key["xllamacpp"] = importlib.metadata.version("xllamacpp")
    name = hashlib.sha256(json.dumps(key).encode()).hexdigest()[:32]
    entry = env.cache_folder() / "opened" / f"{name}.json"
    if read_cached(entry):
        return
    words = [str(word) for word in (context, slots, file, *adapters)]
    command = [sys.executable, "-P", "-m", "strop.serving.engine", *words]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    named = ", ".join(map(str, (file, *adapters)))
    if _TOO_LONG and done.returncode == -_TOO_LONG:
        raise DataError(
            f"{named} cannot be used: llama.cpp did not open it and render one question by its chat "
            f"template in the time for that, {SECONDS} s and 1 s for each {RATE // 10**6} MB; take a "
            "file with the template of its model, or a faster disk"
        )
    if done.returncode < 0:
        raise DataError(
            f"{named} cannot be opened: the process in which llama.cpp tried it "
            f"{ending(done.returncode)}; get the file again, or ask for a smaller context than "
            f"{context} if memory is short"
        )
    if done.returncode == 0:
        write_cached(entry, key)


def _limit(opening: Path | None = None) -> None:
    """Let this process end where llama.cpp takes too long to open a file, or for a chat after it.

    llama.cpp renders templates by itself, without limits, and some already when it opens a file.
    """
    if sys.platform == "win32":  # neither alarms nor limits of memory
        return
    import resource

    signal.alarm(SECONDS + (opening.stat().st_size // RATE if opening else 0))
    if opening is None:
        most = psutil.Process().memory_info().vms + ROOM
        resource.setrlimit(resource.RLIMIT_AS, (most, resource.getrlimit(resource.RLIMIT_AS)[1]))


def _opened(
    file: Path, adapters: Sequence[Path], context: int, slots: int, key: str, template: str = ""
) -> Any:
    import xllamacpp

    settings = xllamacpp.CommonParams()
    settings.chat_template = template
    settings.model.path = str(file)
    settings.n_ctx, settings.n_parallel = context * slots, slots
    settings.port, settings.n_threads_http = 0, _HTTP_THREADS
    settings.cache_ram_mib = _PROMPTS_MIB
    settings.api_keys, settings.endpoint_slots, settings.endpoint_props = [key], False, False
    settings.verbosity, settings.ui, settings.warmup = 0, False, False
    settings.lora_adapters = [_adapter(xllamacpp, path) for path in adapters]
    hint = "it may be cut short, or of a kind that this version of llama.cpp does not know"
    with reading(", ".join(map(str, (file, *adapters))), hint):
        return xllamacpp.Server(settings)


def _adapter(xllamacpp: Any, path: Path) -> Any:
    info = xllamacpp.CommonAdapterLoraInfo()
    info.path, info.scale = str(path), 0.0
    return info


if __name__ == "__main__":  # the child of `_try_in_child`
    _context, _slots, *_files = sys.argv[1:]
    _engine = Engine(  # named, for its server never ends when it is stopped
        Path(_files[0]),
        adapters=[Path(f) for f in _files[1:]],
        context=int(_context),
        slots=int(_slots),
        trying=True,
    )
    os._exit(0)
