"""Documents behind a server: shown to models that chat, searched, and their embedding model."""

import asyncio
import base64
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from strop.core.errors import StropError
from strop.retrieval.evidence import Evidence, Retrieving, evidence
from strop.retrieval.index import Index
from strop.retrieval.prompts import parsed, prompt_text
from strop.retrieval.storage import RECORD
from strop.serving.requests import RequestError

MOST_HITS, MOST_TEXTS = 1000, 2048


@dataclass(frozen=True, slots=True)
class Prepared:
    """A chat with the documents that it shows."""

    body: dict[str, Any]
    shown: Evidence | None = None
    """None where a request wished for none."""

    def fields(self, text: str) -> dict[str, Any]:
        """Return what an answer carries beside OpenAI's fields.

        `retrieval` has the status, `documents` what was shown, `citations` those that it names.
        """
        if self.shown is None:
            return {}
        cited = parsed(text, self.shown.shown).cited
        fields = self.shown.as_dict()
        citations = [fields["documents"][number - 1] for number in cited]
        return {
            **fields,
            "citations": [{k: c[k] for k in ("number", "source", "title")} for c in citations],
        }


class Documents:
    """An index that a server shows and searches; opened again when it was brought up to date.

    Where it is missing, damaged or slow, models answer alone, and their answers say so.

    Args:
        folder: of the index.
        how: how documents are chosen.
    """

    def __init__(self, folder: Path, how: Retrieving) -> None:
        self._folder, self._how = folder, how
        self._lock = threading.Lock()
        self._index: Index | None = None
        self._state: tuple[int, ...] = ()

    async def prepared(self, body: dict[str, Any]) -> Prepared:
        """Return a chat whose last question stands behind the documents that answer it.

        `"retrieval": false` in a request shows none.
        """
        wished = body.get("retrieval", True)
        body = {name: value for name, value in body.items() if name != "retrieval"}
        messages = list(body["messages"])
        place = max((i for i, m in enumerate(messages) if m["role"] == "user"), default=None)
        if not wished or place is None or not isinstance(messages[place]["content"], str):
            return Prepared(body)
        question = messages[place]["content"]
        shown = await asyncio.to_thread(evidence, self._opened, question, self._how)
        text = prompt_text(question, shown.shown)
        messages[place] = {**messages[place], "content": text}
        return Prepared({**body, "messages": messages}, shown)

    async def search(self, body: dict[str, Any]) -> dict[str, Any]:
        """Return the hits of `{"query": text, "k": 5}`.

        Raises:
            RequestError: the request cannot be read, or there is no index.
        """
        query, k = body.get("query"), body.get("k", 5)
        if not isinstance(query, str) or not query.strip():
            raise RequestError("query: a text with a word is needed", "query", "invalid_value")
        if not isinstance(k, int) or not 1 <= k <= MOST_HITS:
            raise RequestError(f"k: a number from 1 to {MOST_HITS} is needed", "k", "invalid_value")
        try:
            index = await asyncio.to_thread(self._opened)
            hits = await asyncio.to_thread(index.search, query, k)
        except StropError as e:
            raise RequestError(str(e), "", "index_unavailable") from e
        return {"hits": [hit.as_dict() for hit in hits], "notes": index.notes}

    async def embeddings(self, body: dict[str, Any]) -> dict[str, Any]:
        """Return the vectors of `{"input": text or texts}` in OpenAI's form.

        Raises:
            RequestError: the request cannot be read, or the index has no embedding model.
        """
        texts = body.get("input")
        texts = [texts] if isinstance(texts, str) else texts
        if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
            raise RequestError("input: a text or a list of texts is needed", "input")
        if not 0 < len(texts) <= MOST_TEXTS:
            raise RequestError(f"input: from 1 to {MOST_TEXTS} texts are needed", "input")
        kind = body.get("encoding_format", "float")
        if kind not in ("float", "base64"):
            raise RequestError("encoding_format: float and base64 are served", "encoding_format")
        try:
            index = await asyncio.to_thread(self._opened)
        except StropError as e:
            raise RequestError(str(e), "", "index_unavailable") from e
        if index.embedder is None:
            raise RequestError("the index has words alone and no embedding model", "model")
        vectors = await asyncio.to_thread(index.embedded, texts)
        data = [
            {"object": "embedding", "index": i, "embedding": _written(vector, kind)}
            for i, vector in enumerate(vectors)
        ]
        count = sum(len(text.split()) for text in texts)
        usage = {"prompt_tokens": count, "total_tokens": count}
        return {"object": "list", "data": data, "model": index.embedder.name, "usage": usage}

    def _opened(self) -> Index:
        """Return the index, opened anew where its record changed."""
        with self._lock:
            file = self._folder / RECORD
            state = (file.stat().st_mtime_ns, file.stat().st_ino) if file.is_file() else ()
            if self._index is None or state != self._state:
                self._index, self._state = Index(self._folder), state
            return self._index


def _written(vector: NDArray[np.float32], kind: str) -> list[float] | str:
    if kind == "base64":
        return base64.b64encode(vector.astype("<f4").tobytes()).decode()
    return [float(x) for x in vector]
