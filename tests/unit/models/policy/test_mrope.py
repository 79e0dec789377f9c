"""Packed rows of a model whose image tokens have positions in time, height and width."""

from types import SimpleNamespace
from typing import Any

import torch
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

from models.inputs.packing import pack
from models.policy.policy import Policy
from rl.algorithms.rows import TrainingAnswer, TrainingRow
from rl.data.records import Problem

IMAGE, START, END = 60, 61, 62
GRID = torch.tensor([[1, 4, 6]])  # 24 patches, merged by twos along both sides: 6 tokens
PROMPT = (5, START, *[IMAGE] * 6, END, 7, 8)
ANSWERS = ((9, 10, 11, 3), (12, 13, 3))


def _model() -> Any:
    torch.manual_seed(0)
    text = {
        "vocab_size": 64,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": 100.0,
            "mrope_section": [2, 3, 3],
        },
    }
    vision = {
        "depth": 1,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_heads": 2,
        "out_hidden_size": 32,
        "patch_size": 14,
        "fullatt_block_indexes": [0],
    }
    ids = {"image_token_id": IMAGE, "vision_start_token_id": START, "vision_end_token_id": END}
    config = Qwen2_5_VLConfig(text_config=text, vision_config=vision, **ids)
    model = Qwen2_5_VLForConditionalGeneration(config).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)  # positions must matter
    return model


def test_answers_packed_behind_an_image_prompt_mean_what_each_means_alone_under_m_rope() -> None:
    model = _model()
    encoder: Any = SimpleNamespace(image_token_ids=(IMAGE,), has_vision=False)
    policy = Policy(model, encoder, chunk=4)
    pixels = {"pixel_values": torch.randn(24, 3 * 2 * 14 * 14), "image_grid_thw": GRID}
    problem = Problem("p", "?", ("1",))
    answers = tuple(TrainingAnswer(i, ids) for i, ids in enumerate(ANSWERS))
    with torch.no_grad():
        packed, *_ = policy(pack((TrainingRow(problem, PROMPT, answers),), 0, pixels))
        alone: list[torch.Tensor] = []
        for answer in ANSWERS:
            ids = torch.tensor([PROMPT + answer])
            kinds = (ids == IMAGE).int()
            logits = model(input_ids=ids, mm_token_type_ids=kinds, **pixels).logits[0].float()
            logits[:, IMAGE] = float("-inf")
            rows = torch.log_softmax(logits[len(PROMPT) - 1 : -1], dim=-1)
            alone.append(rows.gather(1, torch.tensor(answer)[:, None])[:, 0])
    assert torch.allclose(packed, torch.cat(alone), atol=1e-5)
