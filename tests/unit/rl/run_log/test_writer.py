"""A run's folder tells everything once, in order, in JSON, whatever happened on the way."""

import json
import math
import time
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from configs.jobs.grpo import GRPORecipe
from rl.console.progress import CONSOLE
from rl.data.records import Answer, Group, LearnerTokens, Problem, Score, ScoredGroup, Verdict
from rl.run_log.samples import LoggedGroup
from rl.run_log.writer import RunLog
from rl.storage.run_folder import archive_existing_run


def recipe(**log: Any) -> GRPORecipe:
    return GRPORecipe.model_validate(
        {
            "name": "trial",
            "steps": 50,
            "policy": {"path": "some/model"},
            "data": {"source": "rows.parquet"},
            "log": {"wandb": False} | log,
        }
    )


def picture() -> bytes:
    file = BytesIO()
    Image.new("RGB", (2, 2)).save(file, "PNG")
    return file.getvalue()


def group(
    name: str = "p1", text: str = "1+1=2", images: tuple[bytes | str, ...] = ()
) -> LoggedGroup:
    problem = Problem(name, "what?", ("2", "two"), images)
    right = Answer((5, 6), (-0.5, -0.25), text, "stop", version=3, later=((4, 1),))
    cut = Answer((5,), (-0.5,), "1+", "length", version=2)
    scores = (
        Score({"math": Verdict(1.0, "correct", "2 = 2")}, 1.0),
        Score({"math": Verdict(0.0, "bad_gold", "no sense")}, None),
    )
    scored = ScoredGroup(Group(problem, (1, 2, 3), (right, cut)), scores)
    learned = LearnerTokens(
        np.array([-3e-6, 1e-6], np.float32), np.array([0.25, 2 / 3], np.float32)
    )
    odd = LearnerTokens(np.array([math.nan], np.float32), np.array([0.5], np.float32))
    return LoggedGroup(scored, (0.7, None), (learned, odd), token_texts=(["1+1=", "2"], None))


def lines(path: Path) -> list[dict[str, Any]]:
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    return [
        json.loads(line, parse_constant=refuse) for line in path.read_text("utf-8").splitlines()
    ]


def test_an_answer_is_written_with_all_that_was_said_of_it(tmp_path: Path) -> None:
    with RunLog(tmp_path, recipe()) as log:
        log.write_step(4, {"reward": 1.0}, [group()])
    right, cut = lines(tmp_path / "samples.jsonl")
    assert right == {
        "step": 4,
        "problem": "p1",
        "question": "what?",
        "images": [],
        "gold": ["2", "two"],
        "prompt_tokens": 3,
        "sample": 0,
        "answer": "1+1=2",
        "finish_reason": "stop",
        "tokens": 2,
        "version": 3,
        "later_versions": [[4, 1]],
        "reward": 1.0,
        "verdicts": {"math": {"score": 1.0, "cause": "correct", "detail": "2 = 2"}},
        "advantage": 0.7,
        "logprob_gap": pytest.approx(2e-6),
        "by_token": {
            "text": ["1+1=", "2"],
            "logprob": [-0.5, -0.25],
            "gap": [-3e-6, 1e-6],
            "entropy": [0.25, 0.667],
        },
    }
    assert (cut["sample"], cut["version"], cut["finish_reason"]) == (1, 2, "length")
    assert (cut["reward"], cut["advantage"], cut["logprob_gap"]) == (None, None, None)
    assert "by_token" not in cut
    assert cut["verdicts"]["math"]["cause"] == "bad_gold"


def test_gauges_tell_how_far_a_run_is_and_when_it_came_there(tmp_path: Path) -> None:
    gauged: dict[str, float] = {}
    before = time.time()
    with RunLog(tmp_path, recipe(), gauge=gauged.__setitem__) as log:
        assert (gauged["steps_done"], gauged["steps"]) == (0, 50)
        began = gauged["time"]
        log.write_step(0, {"reward": 0.5}, [])
    assert gauged["steps_done"] == 1
    assert before <= began <= gauged["time"] <= time.time() + 1e-3


def test_a_step_can_be_read_as_soon_as_it_is_written(tmp_path: Path) -> None:
    log = RunLog(tmp_path, recipe())
    log.write_step(0, {"reward": 0.5}, [group()])
    assert lines(tmp_path / "metrics.jsonl")[0]["reward"] == 0.5
    assert len(lines(tmp_path / "samples.jsonl")) == 2
    log.close()


def test_figures_that_are_not_finite_become_null_and_are_named_and_counted(tmp_path: Path) -> None:
    gauged: dict[str, float] = {}
    with RunLog(tmp_path, recipe(), gauge=gauged.__setitem__) as log:
        metrics = {"loss": math.nan, "kl": math.inf, "reward": float(np.float32(0.5)), "syncs": 3}
        log.write_step(0, metrics, [])
        log.write_evaluation(1, {"accuracy": math.nan, "greedy_accuracy": 0.25})
        log.write_summary({"accuracy_after": math.nan, "steps": 1, "seconds": 2.5})
    (line,) = lines(tmp_path / "metrics.jsonl")
    assert (line["loss"], line["kl"], line["reward"], line["syncs"]) == (None, None, 0.5, 3)
    assert line["non_finite"] == ["loss", "kl"]
    shown = {name for name in gauged if name not in ("steps", "steps_done", "time")}
    assert shown == {"reward", "syncs", "evaluation/greedy_accuracy"}
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary == {
        "accuracy_after": None,
        "steps": 1,
        "seconds": 2.5,
        "non_finite_figures": 3,
    }


def test_a_resumed_run_tells_no_step_twice_even_after_a_half_written_line(tmp_path: Path) -> None:
    log = RunLog(tmp_path, recipe())
    for step in range(4):
        log.write_step(step, {"reward": step / 10}, [group(f"p{step}")])
        if step % 2:
            log.write_evaluation(step + 1, {"accuracy": 0.5})
    log.close()
    for name in ("metrics.jsonl", "samples.jsonl"):
        with (tmp_path / name).open("a") as file:
            file.write('{"step": 4, "rew')

    with RunLog(tmp_path, recipe(), resume=2) as log:
        for step in range(2, 5):
            log.write_step(step, {"reward": step / 10 + 1}, [group(f"p{step}")])
        log.write_evaluation(2, {"accuracy": 0.75})
    metrics = lines(tmp_path / "metrics.jsonl")
    assert [(line["step"], line["reward"]) for line in metrics] == [
        (0, 0.0),
        (1, 0.1),
        (2, 1.2),
        (3, 1.3),
        (4, 1.4),
    ]
    samples = lines(tmp_path / "samples.jsonl")
    assert [(line["step"], line["problem"]) for line in samples[::2]] == [
        (step, f"p{step}") for step in range(5)
    ]
    evaluations = lines(tmp_path / "evaluations.jsonl")
    assert [(line["step"], line["accuracy"]) for line in evaluations] == [(2, 0.75)]


def test_a_new_run_never_writes_over_another(tmp_path: Path) -> None:
    folder = tmp_path / "trial"
    for _ in range(3):
        archive_existing_run(folder)
        with RunLog(folder, recipe()) as log:
            log.write_step(0, {"reward": 0.5}, [])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["trial", "trial-1", "trial-2"]
    with pytest.raises(ValueError, match="holds a run already: go on with it by --resume"):
        RunLog(folder, recipe())


def test_where_an_older_run_went_is_told_letter_by_letter(tmp_path: Path) -> None:
    folder = tmp_path / "trial[b]"
    (folder / "checkpoints").mkdir(parents=True)
    with CONSOLE.capture() as said:
        archive_existing_run(folder)
    assert said.get() == f"an older run of this name now lies in {folder}-1\n"


def test_samples_are_cut_to_the_recipes_number_a_step(tmp_path: Path) -> None:
    with RunLog(tmp_path, recipe(samples_per_step=3)) as log:
        log.write_step(0, {}, [group("a"), group("b")])
    samples = lines(tmp_path / "samples.jsonl")
    assert [(line["problem"], line["sample"]) for line in samples] == [("a", 0), ("a", 1), ("b", 0)]


def test_an_image_is_written_once_however_often_it_is_asked_about(tmp_path: Path) -> None:
    with RunLog(tmp_path, recipe()) as log:
        for step in range(2):
            log.write_step(step, {}, [group(images=(picture(), "/data/a.jpg"))])
    (file,) = (tmp_path / "images").iterdir()
    assert file.read_bytes() == picture()
    for line in lines(tmp_path / "samples.jsonl"):
        assert line["images"] == [f"images/{file.name}", "/data/a.jpg"]


@pytest.mark.parametrize(
    "text", ["half a character \udce2", "a line\u2028end\x85\r\n", "[/bold] [red]"]
)
def test_no_text_of_a_model_spoils_the_files(tmp_path: Path, text: str) -> None:
    with RunLog(tmp_path, recipe()) as log:
        log.write_step(0, {}, [group(text=text)])
    with (tmp_path / "samples.jsonl").open(encoding="utf-8") as file:
        assert [json.loads(line)["answer"] for line in file] == [text, "1+"]


def test_a_step_is_one_line_on_the_console(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with RunLog(tmp_path, recipe()) as log:
        log.write_step(8, {"reward": 0.5, "loss": math.nan, "logprob_gap": 3e-6, "skipped": 1}, [])
        log.write_evaluation(9, {"accuracy": 0.5, "verdicts/wrong": 0.5})
    assert capsys.readouterr().out.splitlines() == [
        "step  9/50  reward 0.500  gap 3.0e-06  update skipped  not finite: loss",
        "held out, after 9 steps  right 50.0%",
    ]
