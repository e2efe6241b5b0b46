"""Embedding models: texts become unit vectors whose dot products say how alike they are in meaning."""

from strop.models.embedding.embedder import Embedder, check_embedder, open_embedder

__all__ = ["Embedder", "check_embedder", "open_embedder"]
