"""Answers of a run or a model."""

from typing import Any


def answer(
    target: str, question: str, *, max_tokens: int = 256, uncertified: bool = False
) -> dict[str, Any]:
    """Answer one question; `strop.serving.chat.chat_model` answers whole chats, piece by piece.

    Args:
        target: a run folder, a GGUF file, an exported folder or a model.
        question: of the user.
        max_tokens: length of the longest answer.
        uncertified: take an export that is not certified, or changed since.

    Raises:
        StropError: the run or the model cannot be used.
    """
    from strop.serving.chat import chat_model

    reply = chat_model(target, uncertified=uncertified)
    text = "".join(reply([{"role": "user", "content": question}], max_tokens))
    return {"question": question, "answer": text}
