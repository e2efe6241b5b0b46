"""llama.cpp as the xllamacpp package carries it: exact logits and tokens through its C interface."""

import ctypes
import functools
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from strop.core.errors import DataError, MissingPackageError, UnsupportedError

_POINTER, _INT, _BOOL, _TEXT = ctypes.c_void_p, ctypes.c_int32, ctypes.c_bool, ctypes.c_char_p


class _Settings(ctypes.Structure):
    """A settings structure of llama.h, larger than any version's.

    It is made and read by llama.cpp alone; only the first members, which have stood since 2023,
    are set here: the context's and the batch's length.
    """

    _fields_ = [("values", ctypes.c_uint32 * 256)]


class _Batch(ctypes.Structure):
    _fields_ = [
        ("n_tokens", _INT),
        *((name, _POINTER) for name in ("token", "embd", "pos", "n_seq_id", "seq_id", "logits")),
    ]


_SIGNATURES: dict[str, tuple[Any, ...]] = {
    "llama_backend_init": (None,),
    "llama_model_default_params": (_Settings,),
    "llama_context_default_params": (_Settings,),
    "llama_model_load_from_file": (_POINTER, _TEXT, _Settings),
    "llama_init_from_model": (_POINTER, _POINTER, _Settings),
    "llama_model_get_vocab": (_POINTER, _POINTER),
    "llama_vocab_n_tokens": (_INT, _POINTER),
    "llama_vocab_is_eog": (_BOOL, _POINTER, _INT),
    "llama_vocab_get_add_bos": (_BOOL, _POINTER),
    "llama_n_ctx": (ctypes.c_uint32, _POINTER),
    "llama_get_memory": (_POINTER, _POINTER),
    "llama_memory_clear": (None, _POINTER, _BOOL),
    "llama_adapter_lora_init": (_POINTER, _POINTER, _TEXT),
    "llama_set_adapters_lora": (_INT, _POINTER, _POINTER, ctypes.c_size_t, _POINTER),
    "llama_tokenize": (_INT, _POINTER, _TEXT, _INT, _POINTER, _INT, _BOOL, _BOOL),
    "llama_batch_init": (_Batch, _INT, _INT, _INT),
    "llama_batch_free": (None, _Batch),
    "llama_decode": (_INT, _POINTER, _Batch),
    "llama_get_logits": (ctypes.POINTER(ctypes.c_float), _POINTER),
    "llama_free": (None, _POINTER),
    "llama_model_free": (None, _POINTER),
    "ggml_row_size": (ctypes.c_size_t, _INT, ctypes.c_int64),
    "ggml_quantize_chunk": (
        *(ctypes.c_size_t, _INT, _POINTER, _POINTER),
        *(ctypes.c_int64, ctypes.c_int64, ctypes.c_int64, _POINTER),
    ),
}
_Log = ctypes.CFUNCTYPE(None, _INT, _TEXT, _POINTER)
_ERROR = 4
_errors: list[str] = []


@_Log
def _listen(level: int, text: bytes, _: int | None) -> None:
    if level >= _ERROR and text.strip():
        _errors.append(text.decode("utf-8", "replace").strip())


@functools.cache
def library() -> Any:
    """Return llama.cpp's functions, each with its signature of llama.h and ggml.h.

    Raises:
        MissingPackageError: xllamacpp is not installed.
        UnsupportedError: its llama.cpp lacks one of them.
    """
    try:
        import xllamacpp
    except ImportError as e:
        raise MissingPackageError(
            "llama.cpp is needed to check GGUF files, and to write some of their formats; "
            'run: pip install "strop[gguf]"'
        ) from e
    files = [p for p in Path(xllamacpp.__file__).parent.iterdir() if p.suffix in (".so", ".pyd")]
    loaded = ctypes.CDLL(str(files[0]))
    for name, (result, *arguments) in _SIGNATURES.items():
        try:
            function = loaded[name]
        except AttributeError as e:
            raise UnsupportedError(
                f"xllamacpp {xllamacpp.__version__} has no function {name}; install the version "
                "that strop was tried with, see constraints.txt"
            ) from e
        function.restype, function.argtypes = result, arguments
        setattr(loaded, name, function)
    loaded.llama_log_set.argtypes = [_Log, _POINTER]
    loaded.llama_log_set(_listen, None)
    loaded.llama_backend_init()
    return loaded


def quantized(rows: Tensor, kind: int, importance: Tensor | None) -> NDArray[np.uint8]:
    """Return rows [N, D] in a number format of llama.cpp, as bytes [N, ...].

    Args:
        rows: float32.
        kind: ggml's number of the format, whose blocks divide D.
        importance: [D] by which the squares of errors are weighed; None weighs all the same.

    Raises:
        MissingPackageError: xllamacpp is not installed.
    """
    c = library()
    N, D = rows.shape
    values = rows.contiguous().numpy()
    weights = None if importance is None else importance.float().contiguous().numpy()
    out = np.empty((N, c.ggml_row_size(kind, D)), np.uint8)
    c.ggml_quantize_chunk(
        kind,
        values.ctypes.data,
        out.ctypes.data,
        0,
        N,
        D,
        None if weights is None else weights.ctypes.data,
    )
    return out


class Llama:
    """One GGUF model, with an adapter if there is one, ready to read tokens."""

    def __init__(self, file: Path, context: int, adapter: Path | None = None) -> None:
        """Load the model.

        Args:
            file: a GGUF file.
            context: the most tokens that are read at once.
            adapter: a GGUF file that holds a LoRA adapter of this model.

        Raises:
            DataError: llama.cpp refuses a file; the text has its reason.
            MissingPackageError: xllamacpp is not installed.
        """
        self._c = library()
        _errors.clear()
        self._model = self._c.llama_model_load_from_file(
            str(file).encode(), self._c.llama_model_default_params()
        )
        if not self._model:
            raise DataError(
                f"llama.cpp refuses {file}: {'; '.join(_errors) or 'it gives no reason'}"
            )
        settings = self._c.llama_context_default_params()
        settings.values[0] = settings.values[1] = settings.values[2] = context
        self._context = self._c.llama_init_from_model(self._model, settings)
        if not self._context or self._c.llama_n_ctx(self._context) < context:
            raise DataError(
                f"llama.cpp cannot run {file}: {'; '.join(_errors) or 'no reason given'}"
            )
        self._vocabulary = self._c.llama_model_get_vocab(self._model)
        self._batch = self._c.llama_batch_init(context, 0, 1)
        self.size = int(self._c.llama_vocab_n_tokens(self._vocabulary))
        if adapter is not None:
            self._adapt(adapter)

    def _adapt(self, file: Path) -> None:
        loaded = self._c.llama_adapter_lora_init(self._model, str(file).encode())
        if not loaded:
            raise DataError(f"llama.cpp refuses the adapter {file}: {'; '.join(_errors)}")
        adapters, scales = (_POINTER * 1)(loaded), (ctypes.c_float * 1)(1.0)
        self._c.llama_set_adapters_lora(self._context, adapters, 1, scales)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, e: BaseException | None, where: TracebackType | None
    ) -> None:
        self._c.llama_batch_free(self._batch)
        self._c.llama_free(self._context)
        self._c.llama_model_free(self._model)

    def logits(self, ids: Sequence[int]) -> Tensor:
        """Return the scores of the next token after each token: [T, V] float32."""
        self._c.llama_memory_clear(self._c.llama_get_memory(self._context), True)
        batch = self._batch
        batch.n_tokens = len(ids)
        tokens, places, counts = (
            ctypes.cast(p, ctypes.POINTER(_INT)) for p in (batch.token, batch.pos, batch.n_seq_id)
        )
        sequences = ctypes.cast(batch.seq_id, ctypes.POINTER(ctypes.POINTER(_INT)))
        scored = ctypes.cast(batch.logits, ctypes.POINTER(ctypes.c_int8))
        for i, token in enumerate(ids):
            tokens[i], places[i], counts[i], scored[i] = token, i, 1, 1
            sequences[i][0] = 0
        if (code := self._c.llama_decode(self._context, batch)) != 0:
            raise DataError(f"llama.cpp cannot read {len(ids)} tokens: code {code}")
        values = self._c.llama_get_logits(self._context)
        size = len(ids) * self.size
        buffer = ctypes.cast(values, ctypes.POINTER(ctypes.c_float * size)).contents
        return torch.frombuffer(buffer, dtype=torch.float32).view(len(ids), self.size).clone()

    def tokens(self, text: str, *, begin: bool, special: bool) -> list[int]:
        """Return the tokens of a text.

        Args:
            text: any text.
            begin: put the begin token before it where the file says so.
            special: read the names of special tokens as those tokens.
        """
        raw = text.encode()
        room = len(raw) + 8
        ids = (_INT * room)()
        count = self._c.llama_tokenize(self._vocabulary, raw, len(raw), ids, room, begin, special)
        return list(ids[:count])

    def ends(self, token: int) -> bool:
        """Return whether generation stops at this token."""
        return bool(self._c.llama_vocab_is_eog(self._vocabulary, token))
