"""What a session writes, and who writes it."""

from transformers import TrainerState, TrainingArguments

from strop.planning.settings import Settings
from strop.runs import checkpoints
from strop.runs.run import Run
from strop.training.callbacks.checkpoints import Checkpoints
from strop.training.callbacks.log import RunLog
from strop.training.interrupt import Interrupt


def test_only_the_main_process_writes_the_log(tmp_path):
    run = Run(tmp_path)
    for main, lines in ((False, []), (True, [{"step": 3, "held_out_loss": 1.5}])):
        log = RunLog(run, step=0)
        state = TrainerState(is_world_process_zero=main, global_step=3)
        log.on_train_begin(None, state, None)
        log.on_log(None, state, None, logs={"eval_loss": 1.5})
        assert run.log == lines
        assert run.log_file.exists() is main


def test_only_the_main_process_marks_checkpoints_as_complete_and_deletes_old_ones(tmp_path):
    run = Run(tmp_path)
    for step in (1, 2, 3):
        folder = run.checkpoints_folder / f"checkpoint-{step}"
        folder.mkdir(parents=True)
        (folder / "adapter_model.safetensors").write_bytes(b"weights")
    args = TrainingArguments(str(run.checkpoints_folder), use_cpu=True, report_to="none")
    keeper = Checkpoints(
        Interrupt(), run, evaluate=False, settings=Settings(trainer={"save_total_limit": 1})
    )
    keeper.on_save(args, TrainerState(is_world_process_zero=False, global_step=3), None)
    assert checkpoints.whole(run.checkpoints_folder) == []
    assert len(list(run.checkpoints_folder.iterdir())) == 3
    keeper.on_save(args, TrainerState(is_world_process_zero=True, global_step=3), None)
    assert [path.name for path in run.checkpoints_folder.iterdir()] == ["checkpoint-3"]
