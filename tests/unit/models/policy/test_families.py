"""Every family's packed answers mean what they mean alone, and its weights go by their names."""

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import (
    Gemma3Config,
    Gemma3TextConfig,
    InternVLConfig,
    Llama4TextConfig,
    LlavaConfig,
    MistralConfig,
    MixtralConfig,
    MllamaConfig,
    Qwen3Config,
    Qwen3MoeConfig,
    Qwen3NextConfig,
    Qwen3VLMoeConfig,
    RecurrentGemmaConfig,
    StableLmConfig,
)

from configs.schema.data import PromptConfig
from configs.schema.policy import PolicyConfig
from models.inputs.encoder import InputEncoder
from models.inputs.packing import pack
from models.policy import policy as policy_module
from models.policy.attention import all_spans
from models.policy.check import check_experts
from models.policy.checkpoint_weights import (
    checkpoint_weights,
    experts_as_published,
    saved_weights,
    sent_weights,
)
from models.policy.families import (
    check_packing,
    check_routing_replay,
    check_sequence_parallel,
    check_sync,
)
from models.policy.loading import freeze, load_model
from models.policy.parts import part_of
from models.policy.policy import Policy
from rl.algorithms.rows import TrainingAnswer, TrainingRow
from rl.console.errors import UserError
from rl.data.records import Problem
from tests.families import FAMILIES
from tests.family_table import documented, refused, row
from tests.unit.step_samples import png


@pytest.mark.parametrize("family", FAMILIES)
def test_weights_are_sent_and_exported_by_the_names_that_they_were_read_by(
    family: str, tmp_path: Path
) -> None:
    folder, exported = tmp_path / "read", tmp_path / "exported"
    FAMILIES[family](folder)
    read = load_file(folder / "model.safetensors")
    model = load_model(PolicyConfig(path=str(folder), dtype="float32"), folder)
    weights = sent_weights(model).items()
    pieces = [weight.pieces(name, weight.merged()) for name, weight in weights]
    assert all(name in own for (name, _), own in zip(weights, pieces, strict=True))
    sent = {name: piece for own in pieces for name, piece in own.items()}
    assert sent.keys() == read.keys() and sum(map(len, pieces)) == len(read)
    assert all(torch.equal(sent[name], read[name]) for name in read)

    whole = {name: weight.merged() for name, weight in checkpoint_weights(model).items()}
    with experts_as_published(model):
        model.save_pretrained(exported, state_dict=whole)
    made = {name: tensor for group in saved_weights(model) for name, tensor in group.made().items()}
    for written in (load_file(exported / "model.safetensors"), made):
        assert written.keys() == read.keys()
        assert all(torch.equal(written[name], read[name]) for name in read)


@pytest.mark.parametrize("family", FAMILIES)
def test_parts_are_told_apart_by_the_names_of_modules_and_of_checkpoints(
    family: str, tmp_path: Path
) -> None:
    FAMILIES[family](tmp_path)
    model = load_model(PolicyConfig(path=str(tmp_path), dtype="float32"), tmp_path)
    names = list(checkpoint_weights(model))
    saved = list(sent_weights(model))
    assert [part_of(name) for name in names] == [part_of(name) for name in saved]
    parts = {part_of(name) for name in names}
    has_vision = hasattr(model.config, "vision_config")
    assert parts == ({"vision", "projector", "language"} if has_vision else {"language"})
    freeze(model, ["language"])
    learning = sum(p.requires_grad for p in model.parameters())
    assert learning == sum(part_of(name) == "language" for name in names)


ANSWERS = ((9, 10, 11, 12, 13, 14, 15), (20, 21, 22), (30, 31, 32, 33, 34))


@pytest.mark.parametrize("by_spans", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
def test_answers_packed_behind_a_prompt_mean_what_each_means_alone(
    family: str, by_spans: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    FAMILIES[family](tmp_path)
    config = PolicyConfig(path=str(tmp_path), dtype="float32")
    encoder = InputEncoder(tmp_path, PromptConfig(), trust_remote_code=False)
    images = (png(90, 60), png(56, 56)) if encoder.has_vision else ()
    problem = Problem("p", "What is the sum?", ("1",), images)
    prompt = encoder.encode(problem)
    row = TrainingRow(problem, prompt, tuple(TrainingAnswer(i, a) for i, a in enumerate(ANSWERS)))
    monkeypatch.setattr(policy_module, "spans_of", all_spans if by_spans else lambda _: None)
    policy = Policy(load_model(config, tmp_path), encoder, chunk=4)
    with torch.no_grad():
        packed, *_ = policy(pack((row,), encoder.pad_id, encoder.pixels([problem])))
    expected = [_alone(load_model(config, tmp_path), encoder, problem, a) for a in ANSWERS]
    torch.testing.assert_close(packed, torch.cat(expected), rtol=0, atol=1e-5)


@torch.no_grad()
def _alone(
    model: Any, encoder: InputEncoder, problem: Problem, answer: tuple[int, ...]
) -> torch.Tensor:
    """The answer's logprobs by the model and the processor themselves."""
    prompt = encoder.encode(problem)
    made: dict[str, torch.Tensor] = {}
    if problem.images:
        shown = [encoder.images.open(image) for image in problem.images]
        made = dict(
            encoder.processor(
                text=encoder.text(problem),
                images=shown,
                return_tensors="pt",
                add_special_tokens=False,
            )
        )
        assert tuple(made.pop("input_ids")[0].tolist()) == prompt
        made.pop("attention_mask")
    for name, value in made.items():
        if value.shape == (1, len(prompt)):  # the kind of each token: the answer's are text
            made[name] = torch.nn.functional.pad(value, (0, len(answer)))
    logits = model(input_ids=torch.tensor([prompt + answer]), **made).logits[0].float()
    logits[:, list(encoder.image_token_ids)] = float("-inf")
    logprobs = torch.log_softmax(logits[len(prompt) - 1 : -1], dim=-1)
    return logprobs.gather(1, torch.tensor(answer)[:, None])[:, 0]


@pytest.mark.parametrize(
    ("config", "longest", "told"),
    [
        (MistralConfig(sliding_window=4096), 4096, None),
        (MistralConfig(sliding_window=4096), 4097, "look back 4096 tokens .* allow 4097: lower"),
        (Gemma3TextConfig(sliding_window=512), 2000, "gemma3_text look back 512 tokens"),
        (Llama4TextConfig(attention_chunk_size=8192), 9000, "llama4_text look back 8192 tokens"),
        (Qwen3Config(), 32_000, None),
        (Qwen3NextConfig(), 100, "layers of linear_attention, which carry a state"),
        (RecurrentGemmaConfig(), 100, "layers of recurrent, which carry a state"),
        (Gemma3Config(), 100, "image tokens of gemma3 attend to those behind them"),
        (MllamaConfig(), 100, "mllama looks at images by cross-attention.* not served it"),
        (Qwen3MoeConfig(output_router_logits=True), 100, "set it to false in config.json"),
    ],
)
def test_what_packed_rows_would_change_is_refused(
    config: Any, longest: int, told: str | None
) -> None:
    with pytest.raises(UserError, match=told) if told else nullcontext():
        check_packing(config, longest, "prompt.max_tokens")


def test_mixtures_of_experts_that_nobody_tried_are_refused_where_weights_go_to_engines() -> None:
    for known in (Qwen3Config(), Qwen3MoeConfig(), Qwen3VLMoeConfig()):
        check_sync(known)
    check_sync(InternVLConfig(text_config=Qwen3MoeConfig()))
    with pytest.raises(UserError, match=r"mixtral is a mixture of experts.*or a dense policy"):
        check_sync(MixtralConfig())
    untried = LlavaConfig(text_config=Qwen3MoeConfig())
    with pytest.raises(UserError, match=r"llava around qwen3_moe is .*internvl around qwen3_moe"):
        check_sync(untried)


@pytest.mark.parametrize(
    ("config", "told"),
    [
        (Qwen3Config(), "qwen3 is no mixture of experts, so that there is nothing to replay"),
        (MixtralConfig(), "routers of mixtral are not known here, only those of qwen3_moe"),
        (Qwen3VLMoeConfig(), None),
    ],
)
def test_replay_is_refused_where_no_router_could_be_told(config: Any, told: str | None) -> None:
    with pytest.raises(UserError, match=told) if told else nullcontext():
        check_routing_replay(config)


def test_experts_that_transformers_wrote_turned_round_are_refused(tmp_path: Path) -> None:
    published, turned = tmp_path / "published", tmp_path / "turned"
    FAMILIES["qwen3-vl-moe"](published)
    model = load_model(PolicyConfig(path=str(published), dtype="float32"), published)
    check_experts(published, model.config)
    model.save_pretrained(turned)
    with pytest.raises(UserError, match=r"down_proj in .*\[4, 128, 48\].*\[experts, 48, 128\]"):
        check_experts(turned, model.config)


def test_ranks_share_no_rows_of_a_family_whose_attention_is_not_told_of_them() -> None:
    config = StableLmConfig(num_attention_heads=4)
    check_sequence_parallel(config, 1)
    with pytest.raises(UserError, match=r"size=2: stablelm does not tell its attention.*set it"):
        check_sequence_parallel(config, 2)


def test_the_documents_tell_each_family_and_why_others_are_refused() -> None:
    """`python -m tests.family_table` writes the tables anew. What stands in a family's row is held
    by the test that takes it its way."""
    rows = [line for line in documented().splitlines() if line.startswith("| `")]
    assert [line.split("`")[1] for line in rows] == list(FAMILIES)
    assert documented().endswith(refused())


def test_a_family_gets_no_word_for_what_lies_behind_an_error() -> None:
    """Nor for what came out wrong."""
    came = {"family": "llama", "gap": 1e-6, "moved": 0.0, "error": "SFT broke"}
    assert row(came) == "| `llama` | Llama 2 and 3 | yes | no | no | no | no |"
