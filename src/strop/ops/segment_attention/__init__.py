"""Attention among segments of tokens that may share prefixes, without a mask."""

from torch import Tensor

from strop.core.dispatch import Impl, choose
from strop.core.errors import ShapeError
from strop.ops.segment_attention import eager, reference
from strop.ops.segment_attention.segments import Segments


def segment_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    segments: Segments,
    *,
    scale: float | None = None,
    window: int | None = None,
    softcap: float | None = None,
    impl: str | None = None,
) -> Tensor:
    """Attention of each token to its ancestors' tokens and causally to its own segment.

        s[h, n, m] = softcap * tanh(scale * <q[n, h], k[m, h * K // H]> / softcap)
        y[n, h] = sum over visible m of softmax(s[h, n, :])[m] * v[m, h * K // H]

    Without `softcap` the scores are scale * <q, k>. Sums are in float32 or wider; in 16 bits "cpu" and
    "flash" round weights and parts of sums as PyTorch's flash attention does, unless a soft-cap or a window
    makes it work in tiles. Kept for backward: q, k, v, the output and one number per query and head.

    Args:
        q: [N, H, C] floating point, the last dimension contiguous.
        k: [N, K, C] same dtype and device as `q`; H is a multiple of K.
        v: [N, K, C] like `k`.
        segments: the segments, N tokens in all.
        scale: factor of the scores; None means 1 / sqrt(C).
        window: a token sees only those less than this many positions before it.
        softcap: bound of the scores (Gemma 2), or None.
        impl: run this implementation or raise; None takes the first that can.

    Returns:
        [N, H, C] same dtype as `q`.

    Raises:
        ShapeError: the tensors do not fit each other or the segments.
        UnsupportedError: `impl` is unknown or cannot run here.
    """
    fits = q.ndim == k.ndim == 3 and k.shape == v.shape and q.shape[::2] == k.shape[::2]
    fits = fits and k.shape[1] > 0 and q.shape[1] % k.shape[1] == 0
    if not fits or q.shape[0] != segments.size:
        raise ShapeError(
            "segment_attention takes q [N, H, C], k and v [N, K, C] with H a multiple of K and N "
            f"tokens in the segments; got q {list(q.shape)}, k {list(k.shape)}, v {list(v.shape)} "
            f"and {segments.size} tokens"
        )
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    return choose(IMPLS, impl, q, k, v)(q, k, v, segments, scale, window, softcap)


def _cpu_obstacle(q: Tensor, *_: Tensor) -> str | None:
    return None if q.device.type == "cpu" else f"it needs CPU tensors, q is on {q.device.type}"


def _flash_obstacle(q: Tensor, *_: Tensor) -> str | None:
    kind = q.device.type
    return None if kind in ("cuda", "xpu") else f"it needs tensors on a GPU, q is on {kind}"


IMPLS = (
    Impl("flash", lambda: eager.segment_attention, _flash_obstacle),
    Impl("cpu", lambda: eager.segment_attention, _cpu_obstacle),
    Impl("reference", lambda: reference.segment_attention),
)
"""Fastest first; "flash" is the same code on a GPU, with the kernels PyTorch ships for it."""
