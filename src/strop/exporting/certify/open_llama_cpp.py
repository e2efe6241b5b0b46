"""Run in a fresh process: open an exported GGUF file with llama.cpp and compare it.

python -m strop.exporting.certify.open_llama_cpp FILE WORK OUT [ADAPTER]

FILE may also be a Modelfile, whose template then is compared too.
"""

import math
import sys
import unicodedata
from pathlib import Path

from strop.exporting.certify.findings import Findings, report
from strop.exporting.certify.llama_cpp_chats import ChatServer, compare_chats, compare_prompts
from strop.exporting.certify.reference import NEW_TOKENS, Reference
from strop.exporting.gguf.llama_cpp import Llama
from strop.exporting.gguf.reader import GgufReading
from strop.exporting.ollama import modelfile
from strop.exporting.ollama.modelfile import Modelfile
from strop.exporting.weights.sketches import fault
from strop.metrics.divergence import agreement

_NOT_COMPOSED = (
    "llama.cpp has no step that composes characters (Unicode's NFC), as the trained tokenizer does: "
    "give it composed text"
)


def main() -> None:
    """Compare the file named on the command line."""
    file, work, out, *adapters = map(Path, sys.argv[1:])
    adapter = adapters[0] if adapters else None
    if file.name == modelfile.FILE:
        report(work, out, lambda reference, found: look_modelfile(file, reference, found))
    else:
        report(work, out, lambda reference, found: look(file, reference, found, adapter))


def look_modelfile(file: Path, reference: Reference, found: Findings) -> None:
    """Open what a Modelfile names, and compare its template and stops with training's too."""
    found.begin("opening the Modelfile")
    said = Modelfile.read(file)
    model = file.parent / said.model
    look(model, reference, found, file.parent / said.adapter if said.adapter else None)
    names = GgufReading(model, ()).field("tokenizer.ggml.tokens")
    if lost := [names[i] for i in reference.ends if names[i] not in said.stops]:
        found.faults.append(f"the Modelfile does not stop at {lost[0]}, which ends an answer")
    found.begin("comparing the Modelfile's template")
    if ".Tools" not in said.template and any(p.tools for p in reference.prompts):
        found.notes.append(
            "the Modelfile's template writes no tools, which the chat template does: Ollama refuses "
            "requests with tools; llama.cpp takes them from the same file"
        )
    with Llama(model, NEW_TOKENS) as opened:
        for chat, ids in zip(reference.chats, reference.chat_ids, strict=True):
            own = opened.tokens(said.render(chat), begin=True, special=True)
            found.compare_ids("a chat rendered by the Modelfile's template", own, ids)


def look(file: Path, reference: Reference, found: Findings, adapter: Path | None = None) -> None:
    """Open `file`, with an adapter over it or none; compare weights, distributions, answers."""
    longest = max(len(ids) for ids in [*reference.texts, *reference.chat_ids])
    found.begin("opening the file by llama.cpp")
    with Llama(file, longest + NEW_TOKENS, adapter) as model:
        found.begin("comparing tokens and distributions")
        _compare_tokens(model, reference, found)
        found.agreement = agreement(
            reference.texts, reference.firsts, reference.log_probs, model.logits
        )
    found.begin("comparing weights")
    _compare_weights(GgufReading(file, reference.prints, adapter), reference, found)
    if reference.chats:
        found.begin("opening the file by llama.cpp's server")
        server = ChatServer(file, longest + NEW_TOKENS + 8, adapter)
        found.begin("comparing chats and their answers")
        compare_chats(server, reference, found)
        compare_prompts(server, reference, found)


def _compare_tokens(model: Llama, reference: Reference, found: Findings) -> None:
    for text, ids in reference.hard:
        own = model.tokens(text, begin=False, special=False)
        composed = unicodedata.normalize("NFC", text)
        if own != ids == model.tokens(composed, begin=False, special=False):
            found.notes.append(_NOT_COMPOSED)
            continue
        found.compare_ids(f"the text {text[:24]!r}", own, ids)
    begun = model.tokens("a", begin=True, special=True)
    plain = model.tokens("a", begin=False, special=True)
    wanted = plain if reference.begin is None else [reference.begin, *plain]
    found.compare_ids("a plain text", begun, wanted)
    for token in reference.ends:
        if not model.ends(token):
            found.faults.append(f"llama.cpp does not stop at token {token}, which ends an answer")


def _compare_weights(reading: GgufReading, reference: Reference, found: Findings) -> None:
    arch = reading.field("general.architecture")
    for name, wanted in reference.gguf.items():
        value = reading.field(f"{arch}.{name}")
        if not (value == wanted or math.isclose(value, wanted, rel_tol=1e-6)):  # it has float32
            found.faults.append(f"the file says {arch}.{name} {value:g}; trained was {wanted:g}")
    end = reading.field("tokenizer.ggml.eos_token_id")
    if end not in reference.ends:
        found.faults.append(f"the file names {end} as end token; answers end by {reference.ends}")
    prints = reference.prints | (reference.scaled if reading.balanced else {})
    for stored in reading.weights():
        wrong = fault(stored.name, stored.image(), stored.kind, prints, stored.head)
        found.weights += 1
        if wrong:
            found.faults.append(wrong)
    found.faults += [f"the file lacks {name}" for name in reading.missing]
    found.faults += [f"the adapter changes {name}, which is not there" for name in reading.homeless]


if __name__ == "__main__":
    main()
