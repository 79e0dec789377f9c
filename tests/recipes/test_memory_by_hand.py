"""What a recipe of real size holds, worked by hand."""

import pytest

from tests.recipes.test_real_sizes import grpo, skeleton


def test_memory_by_hand() -> None:
    recipe = grpo("deepseek_r1_distill_qwen_1_5b_text")
    billions = 1.777088
    learner = skeleton("deepseek_r1_distill_qwen_1_5b_text").learner(recipe.learner)
    # bfloat16 whole on each of two ranks; float32 gradients and 12 bytes of optimizer over both.
    assert learner.weights * 2**30 == pytest.approx(2 * billions * 1e9, rel=1e-6)
    assert learner.gradients * 2**30 == pytest.approx(4 * billions * 1e9 / 2, rel=1e-6)
    assert learner.optimizer * 2**30 == pytest.approx(12 * billions * 1e9 / 2, rel=1e-6)
    # AdamW's square root, float32 over both; ZeRO 2's bucket whole, bfloat16.
    assert learner.step * 2**30 == pytest.approx(4 * billions * 1e9 / 2, rel=1e-6)
    assert (learner.bucket, learner.buffers * 2**30) == (0, 2 * 5e8)
    engine = skeleton("deepseek_r1_distill_qwen_1_5b_text").engine(recipe.rollout, 9216)
    # Keys and values of 28 layers, 2 heads of 128, bfloat16.
    assert engine.answer_cache * 2**30 == 2 * 28 * 2 * 128 * 2 * 9216


@pytest.mark.parametrize(
    ("kind", "bytes_of_a_head"),
    [
        ("auto", 256),
        ("bfloat16", 256),
        ("fp8", 128),
        ("fp8_per_token_head", 132),  # a float32 scale beside 128 numbers
        ("int4_per_token_head", 68),
        ("nvfp4", 72),  # a scale of 8 bits beside each 16
    ],
)
def test_the_cache_by_hand_in_each_precision(kind: str, bytes_of_a_head: int) -> None:
    rollout = grpo("deepseek_r1_distill_qwen_1_5b_text").rollout
    rollout = rollout.model_copy(update={"engine_args": {"kv_cache_dtype": kind}})
    engine = skeleton("deepseek_r1_distill_qwen_1_5b_text").engine(rollout, 9216)
    # Keys and values of 28 layers, 2 heads of 128.
    assert engine.answer_cache * 2**30 == 2 * 28 * 2 * bytes_of_a_head * 9216
