"""A first run on GPUs: engines start, weights arrive by each way, ranks keep to their own device,
and engines that share a GPU with a learner sleep while it learns.

`.venv/bin/python -m pytest -m gpu tests/gpu`; some of it asks for two GPUs or three.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from actors.training.learner import LearnerRank
from actors.weight_transfer import rendezvous
from actors.weight_transfer.rendezvous import Rendezvous
from models.tiny.model import build_tiny_vlm
from rl.jobs import grpo_actors
from tests.e2e.command import Place
from tests.ray.system import System, learned_from, mean_gap, problem, recipe, running_system

GPUS = torch.cuda.device_count()
one_gpu = pytest.mark.skipif(GPUS < 1, reason="needs a GPU")
two_gpus = pytest.mark.skipif(GPUS < 2, reason="needs two GPUs")
three_gpus = pytest.mark.skipif(GPUS < 3, reason="needs three GPUs")
pytestmark = [pytest.mark.gpu, pytest.mark.timeout(900)]

STEPS = 2
SHORT = (
    *("device=cuda", f"steps={STEPS}", "problems_per_step=8", "rollout.group_size=4"),
    *("rollout.max_new_tokens=24", "data.limit=64", "evaluation.data=null", "log.wandb=false"),
    *("preflight.max_logprob_gap=0.02", "learner.gradient_checkpointing=true"),
)
SHARED = (
    *("sync.shared_gpu=true", "rollout.gpu_memory_utilization=0.4"),
    *("rollout.workers=1", "learner.ranks=1"),
)
ADAPTERS = ("policy.train=[language]", "policy.lora={rank: 4, targets: [q_proj, v_proj]}")
"""On parts of what engines fuse, so that the others have to travel with them."""
KL = "loss.kl.coef=0.01"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    folder = tmp_path_factory.mktemp("gpu")
    build_tiny_vlm(folder / "vlm", seed=0)
    return Place(folder)


def summary_of(
    place: Place, name: str, *words: str, script: str = "rl/grpo.py"
) -> dict[str, float]:
    """What a run called `name` says of itself at its end."""
    own = (f"name={name}", f"log.folder={place.folder / 'runs'}")
    place.finish([*words, *own, f"policy.path={place.folder / 'vlm'}"], name, script)
    return json.loads((place.run(name) / "summary.json").read_text())


@one_gpu
@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("all_weights", ()),
        ("compiled", ("rollout.enforce_eager=false",)),
        ("bfloat16", ("policy.dtype=bfloat16", "preflight.max_logprob_gap=0.1")),
        ("adapters", (*ADAPTERS, KL)),
        ("sharded_reference", (KL, "reference.place=learner", "learner.zero_stage=3")),
        ("offloaded_reference", (KL, "reference.place=learner", "reference.offload=true")),
        ("projector", ("policy.train=[projector]",)),
        ("awake", ("sync.sleep=false",)),
        ("moments_wait_on_the_host", ("sync.offload_optimizer=true",)),
        ("ahead", ("max_staleness=1",)),
    ],
)
def test_an_engine_and_a_learner_share_a_gpu(
    place: Place, name: str, words: tuple[str, ...]
) -> None:
    summary = summary_of(place, name, *SHORT, *SHARED, *words)
    assert summary["syncs_verified"] == STEPS + 1
    assert summary["rollout_restarts"] == 0


ASKED = [problem(1), problem(2)]


@pytest.fixture(
    scope="module",
    params=[
        (["projector"], 1),
        (["vision", "projector", "language"], 1),
        pytest.param((["projector"], 2), marks=two_gpus),
        pytest.param((["vision", "projector", "language"], 2), marks=two_gpus),
    ],
)
def colocated(
    cluster: None, place: Place, tmp_path_factory: pytest.TempPathFactory, request: Any
) -> Iterator[System]:
    """An engine on the GPU of a learner rank, or on those of two: where the projector learns,
    frozen weights sleep on the host; where all do, none are kept."""
    learning, width = request.param
    folder = place.folder / "vlm"
    policy = {"path": str(folder), "dtype": "float32", "train": learning}
    engine = {
        "tensor_parallel_size": width,
        "max_new_tokens": 64,
        "max_num_seqs": 64,
        "gpu_memory_utilization": 0.4,
        "enforce_eager": True,
    }
    ranks = {
        "ranks": width,
        "zero_stage": 3,
        "max_tokens_per_microbatch": 2048,
        "optimizer": {"lr": 1e-2, "weight_decay": 0.0},
    }
    plan = recipe(
        folder,
        device="cuda",
        policy=policy,
        rollout=engine,
        learner=ranks,
        sync={"shared_gpu": True},
        loss={},
    )
    with running_system(plan, folder, tmp_path_factory.mktemp("system")) as system:
        yield system


@one_gpu
def test_an_engine_gives_its_memory_back_asleep_and_answers_as_before_when_it_wakes(
    colocated: System,
) -> None:
    before = colocated.sample(ASKED)
    gpus = range(len(colocated.learners._ranks))
    awake_free = [torch.cuda.mem_get_info(gpu)[0] for gpu in gpus]
    colocated.actors.weights.make_room()
    for gpu in gpus:
        free, total = torch.cuda.mem_get_info(gpu)
        assert free - awake_free[gpu] > 0.3 * total
    colocated.send_weights()
    after = colocated.sample(ASKED)
    assert [[a.token_ids for a in g.answers] for g in after] == [
        [a.token_ids for a in g.answers] for g in before
    ]


@one_gpu
def test_what_learns_arrives_after_a_sleep_and_what_is_frozen_is_as_it_was(
    colocated: System,
) -> None:
    for _ in range(2):
        groups = colocated.sample(ASKED)
        colocated.actors.weights.make_room()
        colocated.learners.update(learned_from(groups))
        colocated.send_weights()  # reads every weight of the engine back
        assert mean_gap(colocated.gaps(groups)) > 1e-3
        assert mean_gap(colocated.gaps(colocated.sample(ASKED))) < 1e-3


@two_gpus
@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("apart", ()),
        ("apart_adapters", (*ADAPTERS, KL)),
        (
            "pairs",
            (
                "sync.shared_gpu=true",
                "rollout.workers=2",
                "learner.ranks=2",
                "rollout.gpu_memory_utilization=0.4",
                "learner.zero_stage=3",
            ),
        ),
        (
            "one_engine_beside_two_ranks",
            (
                "sync.shared_gpu=true",
                "rollout.workers=1",
                "rollout.tensor_parallel_size=2",
                "learner.ranks=2",
                "rollout.gpu_memory_utilization=0.4",
                "learner.zero_stage=3",
            ),
        ),
        (
            "rows_shared",  # whose logprobs the engine's are held to before step 1
            (
                *("sync.shared_gpu=true", "rollout.workers=2", "learner.ranks=2"),
                *("rollout.gpu_memory_utilization=0.4", "learner.sequence_parallel_size=2"),
                *(KL, "reference.place=learner"),
            ),
        ),
    ],
)
def test_weights_travel_between_gpus(place: Place, name: str, words: tuple[str, ...]) -> None:
    assert summary_of(place, name, *SHORT, *words)["syncs_verified"] == STEPS + 1


@two_gpus
@pytest.mark.parametrize("stage", [2, 3])
def test_kept_features_of_two_ranks_are_made_on_their_own_gpus(place: Place, stage: int) -> None:
    words = (
        *("digits_sft", "device=cuda", "steps=4", "data.limit=64", "log.wandb=false"),
        *("features.keep=memory", "policy.train=[projector, language]", "learner.ranks=2"),
        f"learner.zero_stage={stage}",
    )
    one = summary_of(place, f"one_{stage}", *words, "learner.ranks=1", script="rl/sft.py")
    two = summary_of(place, f"two_{stage}", *words, script="rl/sft.py")
    assert two["loss"] == pytest.approx(one["loss"], rel=1e-3)


@two_gpus
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_two_ranks_that_share_rows_learn_from_chats_what_one_learns(
    place: Place, dtype: str
) -> None:
    words = (
        *("digits_sft", "device=cuda", "steps=4", "data.limit=64", "log.wandb=false"),
        *("policy.train=[projector, language]", f"policy.dtype={dtype}"),
    )
    shared = ("learner.ranks=2", "learner.sequence_parallel_size=2")
    one = summary_of(place, f"row_{dtype}", *words, "learner.ranks=1", script="rl/sft.py")
    two = summary_of(place, f"rows_{dtype}", *words, *shared, script="rl/sft.py")
    assert two["loss"] == pytest.approx(one["loss"], rel=1e-3 if dtype == "float32" else 1e-2)


class SmallBuffers(LearnerRank):
    """A rank whose layers lie in many buffers, which are sent on two streams by turns."""

    def init_weight_transfer(self, meeting: Rendezvous) -> bool:
        rendezvous.BUFFER_BYTES = 2**14
        return super().init_weight_transfer(meeting)


@three_gpus
def test_layers_that_are_gathered_while_others_travel_arrive(
    cluster: None, place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(grpo_actors, "LearnerRank", SmallBuffers)
    folder = place.folder / "vlm"
    plan = recipe(
        folder,
        device="cuda",
        policy={"path": str(folder), "dtype": "float32"},
        learner={"ranks": 2, "zero_stage": 3, "max_tokens_per_microbatch": 2048},
        loss={},
    )
    with running_system(plan, folder, tmp_path) as system:
        for _ in range(20):
            groups = system.sample(ASKED)
            system.learners.update(learned_from(groups))
            system.send_weights()  # reads every weight of the engine back
