"""Scores of tiny reward models beside what transformers makes of the same checkpoints."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    AutoProcessor,
    AutoTokenizer,
    Qwen2_5_VLForConditionalGeneration,
    Qwen3Config,
    Qwen3ForSequenceClassification,
)

from actors.scoring.value_head import ValueHeadScorer
from configs.schema.quality import ValueHeadConfig
from rewards.quality.chains import GradedChain
from rl.console.errors import UserError
from rl.data.images import open_image
from rl.data.records import Problem
from tests.families import build_qwen3_text
from tests.unit.step_samples import png
from tests.vision_families import build_qwen2_5_vl

PICTURE, OTHER = png(56, 56), png(84, 56, (200, 9, 99))
CHAINS = [
    GradedChain(Problem("a", "<image>two digits?", ("5",), (PICTURE,)), "<think>2 + 3</think>5"),
    GradedChain(Problem("b", "one and one?", ("2",)), "<think>short</think>2"),
    GradedChain(Problem("c", "alike?", ("no",), (PICTURE, OTHER)), "<think>they differ</think>no"),
]


@pytest.fixture(scope="module")
def vision(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Qwen2.5-VL with a value head in a file of its own."""
    folder = tmp_path_factory.mktemp("vision")
    build_qwen2_5_vl(folder)
    generator = torch.Generator().manual_seed(1)
    head = {
        "v_head.summary.weight": torch.randn(1, 128, generator=generator),
        "v_head.summary.bias": torch.tensor([0.25]),
    }
    save_file(head, folder / "value_head.safetensors", {"format": "pt"})
    return folder


def scorer(folder: Path, **fields: Any) -> ValueHeadScorer:
    return ValueHeadScorer(ValueHeadConfig(path=str(folder), dtype="float32", **fields))


def by_transformers(folder: Path, chain: GradedChain) -> float:
    """The head on the last of the hidden states that the whole model hands out."""
    model: Any = Qwen2_5_VLForConditionalGeneration.from_pretrained(folder, dtype=torch.float32)
    processor: Any = AutoProcessor.from_pretrained(folder)
    question = chain.problem.question.replace("<image>", "")
    parts = [{"type": "image"} for _ in chain.problem.images]
    asked = [*parts, {"type": "text", "text": question}]
    messages = [{"role": "user", "content": asked}, {"role": "assistant", "content": chain.text}]
    text = processor.apply_chat_template(messages, tokenize=False)
    images = [open_image(image) for image in chain.problem.images] or None
    inputs = processor(text=[text], images=images, return_tensors="pt")
    with torch.no_grad():
        hidden_C = model(**inputs, output_hidden_states=True).hidden_states[-1][0, -1]
    head = load_file(folder / "value_head.safetensors")
    score = hidden_C @ head["v_head.summary.weight"][0] + head["v_head.summary.bias"][0]
    return float(score)


def test_a_score_is_the_value_head_on_the_last_token_however_chains_are_batched(
    vision: Path,
) -> None:
    reward_model = scorer(vision)
    expected = [by_transformers(vision, chain) for chain in CHAINS]
    assert len({round(score, 3) for score in expected}) == 3
    assert reward_model.score(CHAINS) == pytest.approx(expected, abs=1e-4)
    alone = [reward_model.score([chain])[0] for chain in CHAINS]
    assert alone == pytest.approx(expected, abs=1e-4)


def test_images_and_chain_both_count(vision: Path) -> None:
    first, *_ = CHAINS
    other_image = GradedChain(Problem("a", first.problem.question, ("5",), (OTHER,)), first.text)
    other_chain = GradedChain(first.problem, "<think>2 + 3</think>6")
    scores = scorer(vision).score([first, other_image, other_chain])
    assert len({f"{score:.4f}" for score in scores}) == 3


def test_what_cannot_be_scored_says_why_and_leaves_the_others_their_scores(vision: Path) -> None:
    spelled = GradedChain(CHAINS[1].problem, "<|image_pad|>")
    broken = GradedChain(Problem("x", "?", ("1",), (b"no image",)), "1")
    long = GradedChain(CHAINS[1].problem, "1 + " * 300)
    found = scorer(vision, max_tokens=200).score([spelled, broken, long, CHAINS[1]])
    assert found[0] == "1 image tokens in the text for 0 images"
    assert str(found[1]).startswith("image: ")
    assert "over value_head.max_tokens=200" in str(found[2])
    assert found[3] == pytest.approx(by_transformers(vision, CHAINS[1]), abs=1e-4)


def test_a_head_among_the_weights_of_the_model_itself_is_found(
    vision: Path, tmp_path: Path
) -> None:
    for path in vision.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    weights = load_file(tmp_path / "model.safetensors")
    weights |= load_file(tmp_path / "value_head.safetensors")
    (tmp_path / "value_head.safetensors").unlink()
    save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
    assert scorer(tmp_path).score(CHAINS) == pytest.approx(scorer(vision).score(CHAINS), abs=1e-5)


def test_a_classifier_of_one_label_scores_as_transformers_has_it(tmp_path: Path) -> None:
    build_qwen3_text(tmp_path)
    config = Qwen3Config.from_pretrained(tmp_path, num_labels=1)
    torch.manual_seed(5)
    model: Any = Qwen3ForSequenceClassification(config).eval()
    model.save_pretrained(tmp_path)
    tokenizer: Any = AutoTokenizer.from_pretrained(tmp_path)
    chains = [CHAINS[1], GradedChain(CHAINS[1].problem, "<think>one, and one more</think>2")]
    expected: list[float] = []
    for chain in chains:
        said = [("user", chain.problem.question), ("assistant", chain.text)]
        messages = [{"role": role, "content": text} for role, text in said]
        text = tokenizer.apply_chat_template(messages, tokenize=False)
        inputs = tokenizer(text, add_special_tokens=False, return_tensors="pt")
        expected.append(model(**inputs).logits[0, 0].item())
    found = scorer(tmp_path).score([*chains, CHAINS[0]])
    assert found[:2] == pytest.approx(expected, abs=1e-4)
    assert found[2] == "the reward model reads text only, and the question has images"


def test_a_model_without_a_value_head_is_refused(tmp_path: Path) -> None:
    build_qwen3_text(tmp_path)
    with pytest.raises(UserError, match=r"no v_head\.summary\.weight"):
        scorer(tmp_path)
    config = Qwen3Config.from_pretrained(tmp_path, num_labels=3)
    Qwen3ForSequenceClassification(config).save_pretrained(tmp_path)
    with pytest.raises(UserError, match="classifier of 3 labels"):
        scorer(tmp_path)
