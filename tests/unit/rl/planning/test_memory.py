"""What a run's actors hold of GPUs and hosts, beside numbers worked by hand."""

from typing import Any

import pytest

from configs.jobs.sft import SFTRecipe
from models.policy.memory import LearnerMemory
from rl.planning.memory import CUDA_GIB, Memory, estimator, memory_of
from tests.unit.step_samples import short_recipe as recipe


def memory(folder: str, gpu_gib: float | None = None, **changes: Any) -> Memory:
    asked = recipe(device="cuda", **{"policy": {"path": folder}} | changes)
    found = memory_of(asked, gpu_gib)
    assert found is not None
    return found


def test_a_policy_whose_config_is_nowhere_is_not_estimated() -> None:
    assert memory_of(recipe(), 80.0) is None


def test_the_reference_is_where_the_recipe_puts_it(folder: str) -> None:
    kl = {"kl": {"coef": 0.1}}
    lora = {"path": folder, "train": ["language"], "lora": {"rank": 1}}
    sharded = {"reference": {"place": "learner"}}
    for changes, holders in (({}, 1), ({"policy": lora}, 0), (sharded, 0)):
        held = memory(folder, loss=kl, **changes)
        assert sum(one.who == "reference" for one in held.gpus) == holders
    alone, beside = (memory(folder, loss=loss, **sharded).gpus[0] for loss in ({}, kl))
    whole = estimator(recipe(policy={"path": folder}).policy)
    assert whole is not None
    assert beside.parts["reference"] == beside.total - alone.total == pytest.approx(whole.whole)


def test_a_reference_that_leaves_the_gpu_is_on_the_host(folder: str) -> None:
    kl, learner = {"kl": {"coef": 0.1}}, {"ranks": 2}
    beside, away = (
        memory(folder, loss=kl, learner=learner, reference={"place": "learner", "offload": offload})
        for offload in (False, True)
    )
    shard = beside.gpus[0].parts["reference"]
    assert away.gpus[0].total == pytest.approx(beside.gpus[0].total - shard)
    assert (beside.hosts["learner"]["reference"], away.hosts["learner"]["reference"]) == (0, shard)


def test_an_optimizer_that_is_offloaded_is_on_the_host_and_not_on_the_gpu(folder: str) -> None:
    kept, offloaded = (memory(folder, learner={"offload": where}) for where in (False, True))
    optimizer = kept.gpus[0].parts["optimizer"]
    assert optimizer > 0 == kept.hosts["learner"]["optimizer"]
    assert (offloaded.gpus[0].parts["optimizer"], offloaded.hosts["learner"]["optimizer"]) == (
        0.0,
        optimizer,
    )


@pytest.mark.parametrize(
    ("stage", "dtype", "each"),
    [
        (2, "bfloat16", 8),  # float32 sums; sums and stepped weights in bfloat16
        (2, "float32", 12),
        (3, "bfloat16", 8),  # float32 as they come, and as they are stepped by
        (3, "float32", 8),
    ],
)
def test_gradients_of_an_offloaded_optimizer_are_on_the_host(
    folder: str, stage: int, dtype: str, each: int
) -> None:
    policy = {"path": folder, "dtype": dtype}
    learner = {"zero_stage": stage, "ranks": 2, "offload": True}
    held = memory(folder, policy=policy, learner=learner)
    assert held.gpus[0].parts["gradients"] == 0.0
    learning = held.learning * 1e9
    assert held.hosts["learner"]["gradients"] * 2**30 == pytest.approx(each * learning / 2)
    assert held.hosts["learner"]["optimizer"] * 2**30 == pytest.approx(12 * learning / 2)


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_an_optimizer_s_step_takes_a_square_root_and_zero_3_its_gradients_once_more(
    folder: str, stage: int
) -> None:
    shape = estimator(recipe(policy={"path": folder}).policy)
    assert shape is not None
    largest = max(p.numel() for p in shape._model.parameters())

    def step(**changes: Any) -> float:
        """Bytes."""
        learner = recipe(learner={"zero_stage": stage, **changes}).learner
        return shape.learner(learner).step * 2**30

    for ranks in (1, 4):
        share = shape.learning / ranks
        wanted = 8 * share if stage == 3 else max(4 * share, 8 * min(largest, share))
        assert step(ranks=ranks) == pytest.approx(wanted)
    if stage == 3:
        assert step(zero_optimization={"sub_group_size": 1000}) == pytest.approx(8000)


def test_the_fuller_of_backward_pass_and_step_counts() -> None:
    state = {"weights": 1.0, "gradients": 2.0, "optimizer": 3.0, "bucket": 4.0}
    passing = {"buffers": 5.0, "activations": 6.0, "logits": 7.0}
    assert LearnerMemory(**state, **passing, step=8.0).total == 10 + 18
    assert LearnerMemory(**state, **passing, step=20.0).total == 10 + 20


def test_zero_3_keeps_its_bucket_whole_while_nothing_is_learned(folder: str) -> None:
    policy = {"path": folder, "train": ["projector"]}
    held = memory(folder, policy=policy, learner={"zero_stage": 3}).gpus[0]
    assert held.parts["bucket"] * 2**30 == 2 * 5 * 10**8  # in bfloat16
    kept = ("weights", "gradients", "optimizer", "bucket")
    assert held.at_rest == pytest.approx(CUDA_GIB + sum(held.parts[name] for name in kept))


def test_weights_that_are_offloaded_are_on_the_host_and_not_on_the_gpu(folder: str) -> None:
    learner = {"zero_stage": 3, "ranks": 2, "offload": True}
    on_host = {"zero_optimization": {"offload_param": {"device": "cpu"}}}
    beside, away = (memory(folder, learner=learner | own) for own in ({}, on_host))
    weights = beside.gpus[0].parts["weights"]
    assert weights > 0 == away.gpus[0].parts["weights"]
    assert (beside.hosts["learner"]["weights"], away.hosts["learner"]["weights"]) == (0, weights)


@pytest.mark.parametrize(
    ("stage", "settings", "elements"),
    [
        (2, {"reduce_bucket_size": 1000}, 1000),
        (2, {"reduce_bucket_size": 1000, "overlap_comm": True}, 2000),
        (3, {"stage3_max_live_parameters": 3000}, 3000),
    ],
)
def test_what_is_gathered_at_a_time_follows_the_recipe_s_own_settings_of_deepspeed(
    folder: str, stage: int, settings: dict[str, Any], elements: int
) -> None:
    learner = {"zero_stage": stage, "zero_optimization": settings}
    gathered = memory(folder, learner=learner).gpus[0].parts["gathered"]
    assert gathered * 2**30 == pytest.approx(2 * elements)  # in bfloat16


def test_a_reference_on_the_ranks_is_gathered_as_zero_3_gathers(folder: str) -> None:
    settings = {"reduce_bucket_size": 1000, "stage3_max_live_parameters": 3000}
    learner = {"zero_stage": 2, "zero_optimization": settings}
    parts = [
        memory(folder, learner=learner, loss={"kl": {"coef": coef}}, reference={"place": "learner"})
        .gpus[0]
        .parts
        for coef in (0.0, 0.1)
    ]
    assert [part["gathered"] * 2**30 for part in parts] == pytest.approx([2000, 6000])


def test_a_frozen_tower_keeps_one_layer_and_one_that_learns_the_input_of_each(
    folder: str,
) -> None:
    shape = estimator(recipe(policy={"path": folder}).policy)
    frozen = estimator(recipe(policy={"path": folder, "train": ["projector"]}).policy)
    assert shape is not None and frozen is not None
    learner = recipe().learner
    without, with_images = (
        of.learner(learner).activations - of.learner(learner, image_tokens=100).activations
        for of in (frozen, shape)
    )
    tower = shape._model.config.vision_config
    each = 100 * 4 * 2 / 2**30  # of 4 patches a token, in bfloat16
    hidden, wide = tower.hidden_size, tower.intermediate_size
    # And of one layer what its gradients need: 12 and 6 in place of 8 and 3.
    inputs, beside = tower.num_hidden_layers * hidden, 4 * hidden + 3 * wide
    assert without - with_images == pytest.approx(each * (inputs + beside))


def test_what_layers_and_logits_take_by_hand(folder: str) -> None:
    shape = estimator(recipe(policy={"path": folder}).policy)
    assert shape is not None
    # Bytes of 10 tokens in bfloat16, hidden size 8, wide 32: (12 x 8 + 6 x 32) x 20 at work.
    assert shape._kept(10, 3, 8, 32, checkpointing=True) * 2**30 == 5760 + 3 * 160
    # And without recomputation (12 x 8 + 4 x 32) x 20 of each, and 2 x 32 x 20 at work.
    assert shape._kept(10, 3, 8, 32, checkpointing=False) * 2**30 == 3 * 4480 + 1280
    assert shape._kept(10, 0, 8, 32, checkpointing=True) * 2**30 == (8 * 8 + 3 * 32) * 20
    learner = recipe(learner={"logprob_chunk": 7}).learner
    assert shape.logits(learner) * 2**30 == 16 * 7 * shape.text.vocab_size


@pytest.mark.parametrize("supervised", [False, True])
def test_ranks_that_share_rows_divide_what_the_language_model_keeps_of_them(
    folder: str, supervised: bool
) -> None:
    shape = estimator(recipe(policy={"path": folder}).policy)
    assert shape is not None
    tokens = 20_000
    learner = {"ranks": 4, "max_tokens_per_microbatch": tokens}

    def held(size: int) -> float:
        """Of the language model."""
        own = {"policy": {"path": folder}, "learner": learner | {"sequence_parallel_size": size}}
        chats = {"name": "chats", "device": "cuda", "data": {"source": "chats.jsonl"}}
        asked = SFTRecipe.model_validate(chats | own) if supervised else recipe(**own)
        memory = memory_of(asked, None)
        assert memory is not None
        tower = shape._tower_activations(asked.learner, tokens, learns=True)
        return memory.gpus[0].parts["activations"] - tower

    whole_row = 2 * tokens * shape.text.hidden_size * 2 / 2**30  # in bfloat16, and its gradient
    assert held(4) == pytest.approx(held(1) / 4 + whole_row)


def test_a_cache_that_holds_all_wanted_answers_is_told_from_one_that_does_not(folder: str) -> None:
    roomy, tight = (
        memory(folder, gib, rollout={"max_num_seqs": 100}).gpus[1]
        for gib in (80.0, CUDA_GIB / 0.85 + 0.1)
    )
    assert roomy.note.endswith("which there is room for")
    assert "rollout.max_num_seqs=" in tight.note and not tight.tight


def test_more_answers_fit_a_cache_of_fewer_bits(folder: str) -> None:
    gib, asked = CUDA_GIB / 0.85 + 0.1, {"max_num_seqs": 9999}
    rooms: list[int] = []
    for own in ({}, {"kv_cache_dtype": "fp8"}):
        note = memory(folder, gib, rollout=asked | {"engine_args": own}).gpus[1].note
        rooms.append(int(note.rpartition("rollout.max_num_seqs=")[2].split()[0]))
    assert 2 * rooms[0] <= rooms[1] <= 2 * rooms[0] + 1


def test_an_engine_that_sleeps_keeps_on_the_host_what_no_update_brings(folder: str) -> None:
    frozen, learning = (
        {"path": folder, "train": parts}
        for parts in (["projector"], ["vision", "projector", "language"])
    )

    def asleep(policy: dict[str, Any], width: int = 1, **sync: Any) -> float:
        """GiB of one engine."""
        share = {"tensor_parallel_size": width, "gpu_memory_utilization": 0.5}
        sync = {"shared_gpu": True} | sync
        held = memory(folder, policy=policy, rollout=share, learner={"ranks": width}, sync=sync)
        return held.hosts["rollout"]["asleep"]

    shape = estimator(recipe(policy=frozen).policy)
    assert shape is not None
    tower = shape.whole * shape.sizes["vision"] / sum(shape.sizes.values())
    assert asleep(frozen) == pytest.approx(shape.whole)
    assert asleep(frozen, width=2) == pytest.approx(shape.whole + tower)  # which each worker has
    assert asleep(frozen, sleep=False) == asleep(learning) == 0.0
