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
from strop.exporting.certify.reference import NEW_TOKENS, ReferenceOutputs
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
        report(work, out, lambda reference, findings: look_modelfile(file, reference, findings))
    else:
        report(work, out, lambda reference, findings: look(file, reference, findings, adapter))


def look_modelfile(file: Path, reference: ReferenceOutputs, findings: Findings) -> None:
    """Open what a Modelfile names, and compare its template and stops with training's too."""
    findings.begin("opening the Modelfile")
    contents = Modelfile.read(file)
    model = file.parent / contents.model
    look(model, reference, findings, file.parent / contents.adapter if contents.adapter else None)
    names = GgufReading(model, ()).field("tokenizer.ggml.tokens")
    if lost := [names[i] for i in reference.ends if names[i] not in contents.stops]:
        findings.faults.append(f"the Modelfile does not stop at {lost[0]}, which ends an answer")
    findings.begin("comparing the Modelfile's template")
    if ".Tools" not in contents.template and any(p.tools for p in reference.prompts):
        findings.notes.append(
            "the Modelfile's template writes no tools, which the chat template does: Ollama refuses "
            "requests with tools; llama.cpp takes them from the same file"
        )
    with Llama(model, NEW_TOKENS) as opened:
        for chat, ids in zip(reference.chats, reference.chat_ids, strict=True):
            ids_read = opened.tokens(contents.render(chat), begin=True, special=True)
            findings.compare_ids("a chat rendered by the Modelfile's template", ids_read, ids)


def look(
    file: Path, reference: ReferenceOutputs, findings: Findings, adapter: Path | None = None
) -> None:
    """Open `file`, with an adapter over it or none; compare weights, distributions, answers."""
    longest = max(len(ids) for ids in [*reference.texts, *reference.chat_ids])
    findings.begin("opening the file by llama.cpp")
    with Llama(file, longest + NEW_TOKENS, adapter) as model:
        findings.begin("comparing tokens and distributions")
        _compare_tokens(model, reference, findings)
        findings.agreement = agreement(
            reference.texts, reference.context_starts, reference.log_probs, model.logits
        )
    findings.begin("comparing weights")
    _compare_weights(GgufReading(file, reference.sketches, adapter), reference, findings)
    if reference.chats:
        findings.begin("opening the file by llama.cpp's server")
        server = ChatServer(file, longest + NEW_TOKENS + 8, adapter)
        findings.begin("comparing chats and their answers")
        compare_chats(server, reference, findings)
        compare_prompts(server, reference, findings)


def _compare_tokens(model: Llama, reference: ReferenceOutputs, findings: Findings) -> None:
    for text, ids in reference.tokenizer_stress_texts:
        ids_read = model.tokens(text, begin=False, special=False)
        composed = unicodedata.normalize("NFC", text)
        if ids_read != ids == model.tokens(composed, begin=False, special=False):
            findings.notes.append(_NOT_COMPOSED)
            continue
        findings.compare_ids(f"the text {text[:24]!r}", ids_read, ids)
    begun = model.tokens("a", begin=True, special=True)
    plain = model.tokens("a", begin=False, special=True)
    expected = plain if reference.begin is None else [reference.begin, *plain]
    findings.compare_ids("a plain text", begun, expected)
    for token in reference.ends:
        if not model.ends(token):
            findings.faults.append(
                f"llama.cpp does not stop at token {token}, which ends an answer"
            )


def _compare_weights(reading: GgufReading, reference: ReferenceOutputs, findings: Findings) -> None:
    arch = reading.field("general.architecture")
    for name, expected in reference.gguf.items():
        value = reading.field(f"{arch}.{name}")
        if not (value == expected or math.isclose(value, expected, rel_tol=1e-6)):  # it has float32
            findings.faults.append(
                f"the file says {arch}.{name} {value:g}; trained was {expected:g}"
            )
    end = reading.field("tokenizer.ggml.eos_token_id")
    if end not in reference.ends:
        findings.faults.append(
            f"the file names {end} as end token; answers end by {reference.ends}"
        )
    sketches = reference.sketches | (reference.scaled if reading.channels_scaled else {})
    for stored in reading.weights():
        wrong = fault(stored.name, stored.projection(), stored.kind, sketches, stored.head)
        findings.weights += 1
        if wrong:
            findings.faults.append(wrong)
    findings.faults += [f"the file lacks {name}" for name in reading.missing]
    findings.faults += [
        f"the adapter changes {name}, which is not there" for name in reading.homeless
    ]


if __name__ == "__main__":
    main()
