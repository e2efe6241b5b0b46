"""Write the measured numbers into docs/documents.md, between its markers, from results files."""

import re
from pathlib import Path
from typing import Any

from results import read, rows_of
from wrap import write_page

PAGE = Path(__file__).parent.parent / "docs" / "documents.md"
BLOCK = re.compile(r"(<!-- numbers: [^\n]* -->\n).*?(<!-- end of numbers -->)", re.DOTALL)
WAYS = ("words", "meaning", "fused")


def page() -> str:
    """Return the page with what was measured."""
    results = read("cpu/retrieval.json")
    texts = [
        part(results) for name, part in (("recall", recall), ("size", size)) if name in results
    ]
    block = "\n\n".join(texts) or "No results have been recorded yet."
    text = PAGE.read_text(encoding="utf-8")
    return BLOCK.sub(lambda match: f"{match[1]}\n{block}\n\n{match[2]}", text)


def machine(results: dict[str, Any]) -> str:
    """Return where it was measured."""
    of = results["machine"]
    return f"{of['cores']} cores, {of['cpu']}, commit {results['commit'][:7]}"


def recall(results: dict[str, Any]) -> str:
    """Return the table of recall, and how well relevance tells questions apart."""
    peers = {"sentence-transformers + faiss": results["peers"]} if "peers" in results else {}
    results = results["recall"]
    cells = [["", *WAYS]]
    for name, of in (results["recall"] | peers).items():
        cells.append([name, *(f"{of[way]:.3f}" if way in of else "" for way in WAYS)])
    sentences = [
        f"{kind}: {of['ranked_right']:.3f} of pairs ranked right; documents are shown for "
        f"{of['shown_with_article']:.1%} with the article and {of['shown_without_article']:.1%} "
        "without it"
        for kind, of in results["relevance"].items()
    ]
    return (
        f"Share of {results['questions']:,} SQuAD questions whose passage, of "
        f"{results['passages']:,}, is among the first {results['k']} ({machine(results)}).\n\n"
        f"{rows_of(cells)}\n\nRelevance of the same questions with their article in the index and "
        f"without, by {'; by '.join(sentences)}."
    )


def size(results: dict[str, Any]) -> str:
    """Return what many chunks cost."""
    results = results["size"]
    cells = [
        ["", "seconds to index", "ms a search, median", "95 %"],
        [
            f"strop index, {results['embedder']}",
            f"{results['index_seconds']:.0f}",
            f"{results['search_ms']:.1f}",
            f"{results['search_ms_95']:.1f}",
        ],
        [
            "bm25s alone, its own tokens",
            f"{results['bm25s_index_seconds']:.0f}",
            f"{results['bm25s_search_ms']:.1f}",
            f"{results['bm25s_search_ms_95']:.1f}",
        ],
    ]
    return (
        f"{results['chunks']:,} chunks of about 120 words ({machine(results)}): "
        f"{results['index_bytes'] / 1e6:,.0f} MB; one more row is taken in within "
        f"{results['update_seconds']:.0f} s.\n\n{rows_of(cells)}"
    )


if __name__ == "__main__":
    write_page(PAGE, page())
