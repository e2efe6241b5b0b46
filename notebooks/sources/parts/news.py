# %% [markdown]
# ## Data
#
# Sentences from newspapers, each rated by twenty people from -4 to 4 (vaderSentiment 3.3.2, MIT). The
# archive is 2.5 MB; pip refuses it if its SHA-256 differs from the one written here.

# %% tags=["no-output"]
import io
import random
import tarfile
from pathlib import Path

SHA256 = "{{news_sha256}}"
Path("news.txt").write_text(f"{{news_requirement}} --hash=sha256:{SHA256}\n")
# %pip download -q --no-deps --no-binary :all: --require-hashes -r news.txt -d news

# %%
with tarfile.open("news/vaderSentiment-3.3.2.tar.gz") as archive:
    inner = archive.extractfile(
        "vaderSentiment-3.3.2/additional_resources/hutto_ICWSM_2014.tar.gz"
    ).read()
with tarfile.open(fileobj=io.BytesIO(inner)) as archive:
    name = next(n for n in archive.getnames() if n.endswith("nytEditorialSnippets_GroundTruth.txt"))
    text = archive.extractfile(name).read().decode("cp1252", "replace")


def row(line):
    """Return a prompt and its answer from a line: id, mean rating, sentence."""
    _, rating, sentence = line.split("\t", 2)
    tone = (
        "positive" if float(rating) >= 0.5 else "negative" if float(rating) <= -0.5 else "neutral"
    )
    return {
        "prompt": f"Is this sentence positive, negative or neutral?\n\n{sentence.strip()}",
        "completion": tone,
    }


rows = list(
    {line.split("\t", 2)[2]: row(line) for line in text.splitlines() if line.strip()}.values()
)
random.Random(0).shuffle(rows)
train, test = rows[: {{train_rows}}], rows[-{{test_rows}} :]
for each in train[:3]:
    print(each["completion"], "|", each["prompt"].partition("\n\n")[2])
