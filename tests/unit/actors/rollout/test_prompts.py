"""What an engine is given of a problem's images: pixels, or what is kept of all of them."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from actors.rollout.prompts import EnginePrompts, embedded_images
from actors.rollout.vllm_engine import for_embeddings
from configs.schema.data import PromptConfig
from configs.schema.rollout import RolloutConfig
from models.inputs.encoder import InputEncoder
from models.policy.features import FEATURES, KeptEmbeddings, feature_key
from rl.console.errors import UserError
from rl.data.records import Problem
from tests.unit.step_samples import png

RED, BLUE = png(56, 56, (200, 0, 5)), png(90, 40, (0, 5, 200))


@pytest.fixture(scope="module")
def encoder(vlm: Path) -> InputEncoder:
    return InputEncoder(vlm, PromptConfig(), trust_remote_code=False)


def asked(*images: bytes) -> Problem:
    return Problem("seen", "Sum?", ("8",), images)


def keep(folder: Path, image: bytes, tokens: int) -> KeptEmbeddings:
    """One tile of so many tokens, of two channels."""
    kept = KeptEmbeddings(folder, b"tower")
    save_file({FEATURES: torch.ones(1, tokens, 2)}, folder / feature_key(b"tower", image))
    return kept


def test_embeddings_come_in_the_engine_s_precision_and_by_name(
    encoder: InputEncoder, tmp_path: Path
) -> None:
    kept = keep(tmp_path, RED, encoder.image_tokens(RED))
    prompts = EnginePrompts(encoder, torch.bfloat16)
    prompt = prompts(asked(RED), kept)
    (embedding,) = prompt["multi_modal_data"]["image"]
    assert embedding.dtype == torch.bfloat16 and embedding.shape == (encoder.image_tokens(RED), 2)
    assert prompt["multi_modal_uuids"] == {"image": [feature_key(b"tower", RED)]}
    assert embedded_images(prompt) == 1
    assert prompt["prompt_token_ids"] == prompts(asked(RED))["prompt_token_ids"]


def test_without_all_of_its_images_kept_a_prompt_has_pixels(
    encoder: InputEncoder, tmp_path: Path
) -> None:
    kept = keep(tmp_path, RED, encoder.image_tokens(RED))
    prompts = EnginePrompts(encoder, torch.float32)
    for prompt in (prompts(asked(RED, BLUE), kept), prompts(asked(RED), None)):
        assert embedded_images(prompt) == 0
        assert all(hasattr(image, "getpixel") for image in prompt["multi_modal_data"]["image"])
    assert set(prompts(asked(), kept)) == {"prompt_token_ids"}


def test_another_number_of_tokens_than_the_prompt_has_is_refused_with_both(
    encoder: InputEncoder, tmp_path: Path
) -> None:
    wanted = encoder.image_tokens(RED)
    kept = keep(tmp_path, RED, wanted + 1)
    with pytest.raises(
        ValueError, match=rf"holds {wanted + 1} tokens of an image that takes {wanted} "
    ):
        EnginePrompts(encoder, torch.float32)(asked(RED), kept)


def test_a_setting_of_vllm_s_that_embeddings_decide_is_refused() -> None:
    with pytest.raises(UserError, match=r"mm_processor_cache_gb is decided by features.keep=disk"):
        for_embeddings(RolloutConfig(engine_args={"mm_processor_cache_gb": 4}))
