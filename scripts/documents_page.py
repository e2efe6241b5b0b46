"""Write the measured numbers into docs/documents.md, between its markers, from results files."""

from pathlib import Path
from typing import Any

from results import machine, read, rows_of, with_numbers
from wrap import write_page

PAGE = Path(__file__).parent.parent / "docs" / "documents.md"
WAYS = ("words", "meaning", "fused")


def page() -> str:
    """Return the page with what was measured."""
    results = read("cpu/retrieval.json")
    texts = [
        part(results) for name, part in (("recall", recall), ("size", size)) if name in results
    ]
    parts = {
        "relevance": relevance,
        "question_generation": question_generation,
        "teach": teach,
        "teach_news": teach_news,
        "raft": raft,
    }
    for name, part in parts.items():
        if measured := read(f"cpu/{name}.json"):
            texts.append(part(measured))
    block = "\n\n".join(texts) or "No results have been recorded yet."
    return with_numbers(PAGE.read_text(encoding="utf-8"), block)


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


def relevance(results: dict[str, Any]) -> str:
    """Return the table of what is shown to questions that an index answers and to others."""
    ways, sides = ("words", "meaning"), ("inside", "outside")
    cells = [["index of", *(f"{way}, {side}" for way in ways for side in sides)]]
    for group in results["words"]["shown"]:
        shown = (results[way]["shown"][group][side] for way in ways for side in sides)
        cells.append([group, *(f"{share:.0%}" for share in shown)])
    return (
        "Share of questions to which `strop ask` shows a chunk, of those that the index answers and of "
        f"those about something else ({machine(results)}).\n\n{rows_of(cells)}"
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


def question_generation(results: dict[str, Any]) -> str:
    """Return how fast questions about documents are drawn."""
    seconds = results["median_seconds"]
    return (
        f"{results['each']} questions about each of {results['rows'] // results['each']} passages, "
        f"{results['tokens']} tokens each, by {results['model']} in bfloat16 ({machine(results)}): "
        f"{seconds['sampler']:.1f} s by the sampler, {seconds['generate']:.1f} s by `generate` row by "
        f"row, {results['times_as_fast']:.1f} times as long."
    )


ARMS = {
    "raw": "raw text",
    "teach-1": "`strop teach`, 1 wording",
    "teach-3": "`strop teach`, 3 wordings",
    "teach": "`strop teach`, 6 wordings",
    "retrieval": "base, documents retrieved",
}


def teach(results: dict[str, Any]) -> str:
    """Return what a handbook taught."""
    return taught(results, "A fictional handbook")


def teach_news(results: dict[str, Any]) -> str:
    """Return what real news taught."""
    return taught(results, "News of the time zone database of 2025 and 2026, as published,")


def taught(results: dict[str, Any], documents: str) -> str:
    """Return what documents taught each model."""
    texts = []
    for model, arms in results.items():
        material = next(arm for arm in arms.values() if "facts" in arm)
        cells = [
            ["", "right before", "right after", "95 %", "perplexity of general text", "minutes"]
        ]
        for name, arm in ((name, arms[name]) for name in ARMS if name in arms):
            before, after = arm["recall"]["before"], arm["recall"]["after"]
            forgetting = f"{100 * arm['forgetting']:+.1f} %" if "forgetting" in arm else ""
            cells.append(
                [
                    ARMS[name],
                    f"{before['value']:.0%}",
                    f"{after['value']:.0%}",
                    f"{after['low']:.0%} to {after['high']:.0%}",
                    forgetting,
                    f"{arm['seconds'] / 60:.0f}",
                ]
            )
        stopped = [
            f"`{name}` was stopped after {arm['epochs_trained']:.0f} of {arm['epochs_planned']:.0f} "
            f"passes, at a rate of {arm['learning_rate']:g}"
            for name, arm in arms.items()
            if arm.get("epochs_trained", 0) < arm.get("epochs_planned", 0)
        ]
        texts.append(
            f"{documents} of {material['facts']} facts, asked in {material['held_out']} wordings that "
            f"are not trained on, {model} "
            f"({'; '.join([machine(next(iter(arms.values()))), *stopped])}).\n\n{rows_of(cells)}"
        )
    return "\n\n".join(texts)


CASES = {"works": "documents found", "irrelevant": "others shown", "": "index down"}
COMPARED = (
    "raft + works - base + works",
    "raft + works - tuned",
    "raft + irrelevant - tuned",
    "raft - tuned",
)


def named(arm: str) -> str:
    """Return an arm in words."""
    model, _, case = arm.partition(" + ")
    return f"{'retrieval-aware' if model == 'raft' else model}, {CASES[case]}"


def raft(results: dict[str, Any]) -> str:
    """Return the arms of retrieval and training together."""
    texts = []
    for model, parts in results.items():
        if "compare" not in parts:
            continue
        compared = parts["compare"]
        cells = [["", "exact match", "token F1", "cites it", "unsupported"]]
        for name, arm in compared["arms"].items():
            shares = (arm.get(m) for m in ("exact_match", "token_f1", "cited", "hallucinated"))
            cells.append([named(name), *("" if of is None else interval(of) for of in shares)])
        differences = [
            f"{' less '.join(map(named, name.split(' - ')))} {difference(of['exact_match'])} in exact "
            f"match and {difference(of['token_f1'])} in F1"
            for name, of in compared["differences"].items()
            if name in COMPARED
        ]
        tuned, aware = (parts[part]["measured"]["seconds"] / 60 for part in ("plain", "raft"))
        texts.append(
            f"{compared['rows']} questions about articles of the Constitution of India that no model "
            f"was trained on, {model} ({machine(compared)}); the right document is shown for "
            f"{compared['retrieval']['answer_shown']:.0%}. `tuned` learned questions and answers in "
            f"{tuned:.1f} minutes on one core, `retrieval-aware` rows of `strop raft` in "
            f"{aware:.1f}.\n\n{rows_of(cells)}\n\n"
            f"Paired, in points with 95 % intervals: {'; '.join(differences)}."
        )
    return "\n\n".join(texts)


def difference(of: dict[str, Any]) -> str:
    """Return a difference of shares with its interval."""
    return f"{100 * of['value']:+.0f} ({100 * of['low']:.0f} to {100 * of['high']:.0f})"


def interval(of: dict[str, Any]) -> str:
    """Return a share with its interval."""
    ends = "" if of["low"] is None else f" ({100 * of['low']:.0f} to {100 * of['high']:.0f})"
    return f"{100 * of['value']:.0f} %{ends}"


if __name__ == "__main__":
    write_page(PAGE, page())
