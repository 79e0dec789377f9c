"""A reward model that gives a question with its answer one number, as an actor.

Two kinds of checkpoint are read: a (vision-)language model with a linear value head on the last
hidden state of the last token, kept beside its weights as `v_head.summary.weight` and `.bias`
(Skywork-VL-Reward, arXiv:2505.07263, section 3); and a decoder with a classifier of one label.
"""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForSequenceClassification

from configs.schema.data import PromptConfig
from configs.schema.quality import ValueHeadConfig
from models.assembly.shards import local_folder
from models.inputs.encoder import InputEncoder
from models.policy.loading import model_class
from rewards.quality.chains import GradedChain
from rl.console.errors import UserError
from rl.data.images import BadImage

_HEAD = "v_head.summary."
_BY_TOKEN = ("input_ids", "attention_mask", "token_type_ids", "mm_token_type_ids")
"""What a processor makes for each token; the rest is for images, one behind another."""
_Row = dict[str, Tensor]


class ValueHeadScorer:
    """Scores chains. A plain class; the cluster makes it a Ray actor."""

    def __init__(self, config: ValueHeadConfig) -> None:
        """Load the checkpoint.

        Raises:
            UserError: it has no value head of one number.
        """
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._max_tokens = config.max_tokens
        self._encoder = InputEncoder(config.path, PromptConfig(), config.trust_remote_code)
        model, head = _load(config)
        self._body = model.to(self._device).eval()
        self._head = head.to(self._device)

    def score(self, chains: Sequence[GradedChain]) -> list[float | str]:
        """The score of each chain, or why it has none.

        The model reads question and images as the user's turn and the chain as the assistant's, by
        its own chat template, and its head reads the last token.
        """
        rows = [self._row(chain) for chain in chains]
        usable = [row for row in rows if not isinstance(row, str)]
        scores = iter(self._forward(usable) if usable else [])
        return [row if isinstance(row, str) else _finite(next(scores)) for row in rows]

    def _row(self, chain: GradedChain) -> _Row | str:
        """What the model reads, a batch of one; or why it cannot."""
        encoder, problem = self._encoder, chain.problem
        if problem.images and not encoder.has_vision:
            return "the reward model reads text only, and the question has images"
        said = [*encoder.messages(problem), {"role": "assistant", "content": chain.text}]
        reader = encoder.processor if encoder.has_vision else encoder.tokenizer
        text = reader.apply_chat_template(said, tokenize=False, add_generation_prompt=False)
        shown: dict[str, Any] = {}
        if encoder.has_vision:
            marks = text.count(encoder.processor.image_token)
            if marks != len(problem.images):
                return f"{marks} image tokens in the text for {len(problem.images)} images"
            if problem.images:
                try:
                    shown["images"] = [encoder.images.open(image) for image in problem.images]
                except BadImage as error:
                    return f"image: {error}"
        row = dict(reader(text=[text], add_special_tokens=False, return_tensors="pt", **shown))
        length = row["input_ids"].shape[1]
        if length > self._max_tokens:
            return f"{length} tokens, over value_head.max_tokens={self._max_tokens}"
        return row

    @torch.no_grad()
    def _forward(self, rows: Sequence[_Row]) -> list[float]:
        batch = _padded(rows, self._encoder.pad_id)
        inputs = {name: value.to(self._device) for name, value in batch.items()}
        hidden_BTC = self._body(**inputs, use_cache=False).last_hidden_state
        last_B = inputs["attention_mask"].sum(dim=1) - 1
        hidden_BC = hidden_BTC[torch.arange(len(rows), device=self._device), last_B]
        return self._head(hidden_BC.to(self._head.weight.dtype))[:, 0].float().tolist()


def _finite(score: float) -> float | str:
    return score if math.isfinite(score) else f"the reward model's score is {score}"


def _padded(rows: Sequence[_Row], pad_id: int) -> dict[str, Tensor]:
    """Rows as one batch, padded on the right; images of all rows one behind another."""
    batch: dict[str, Tensor] = {}
    for name in dict.fromkeys(name for row in rows for name in row):
        parts = [row[name] for row in rows if name in row]
        if name not in _BY_TOKEN:
            batch[name] = torch.cat(parts)
            continue
        fill = pad_id if name == "input_ids" else 0
        flat = [part[0] for part in parts]
        batch[name] = nn.utils.rnn.pad_sequence(flat, batch_first=True, padding_value=fill)
    return batch


def _load(config: ValueHeadConfig) -> tuple[Any, nn.Linear]:
    """The model without its output layer, and its value head in the precision of its file."""
    folder = local_folder(config.path)
    trust = {"trust_remote_code": config.trust_remote_code}
    hf_config = AutoConfig.from_pretrained(folder, **trust)
    how: dict[str, Any] = {
        "dtype": getattr(torch, config.dtype),
        "attn_implementation": "sdpa",
        "use_safetensors": True,
        **trust,
    }
    if any("SequenceClassification" in name for name in hf_config.architectures or ()):
        model = AutoModelForSequenceClassification.from_pretrained(folder, **how)
        head = getattr(model, "score", None)
        if not isinstance(head, nn.Linear) or head.out_features != 1:
            raise UserError(
                f"value_head.path={config.path!r} is a classifier of {model.num_labels} labels; "
                "a decoder with one label, the score, is wanted"
            )
        return model.base_model, head
    head = _value_head(folder, config.path)
    return model_class(hf_config).from_pretrained(folder, **how).model, head


def _value_head(folder: Path, named: str) -> nn.Linear:
    """The linear value head that lies in one of the folder's safetensors files."""
    found = dict(_head_tensors(folder))
    weight = found.get("weight")
    if weight is None or weight.ndim != 2 or weight.shape[0] != 1:
        shape = None if weight is None else tuple(weight.shape)
        raise UserError(
            f"value_head.path={named!r} has no {_HEAD}weight of one row in its safetensors files "
            f"(found: {shape}); name a reward model with a value head"
        )
    head = nn.Linear(weight.shape[1], 1, bias="bias" in found, dtype=weight.dtype)
    head.load_state_dict(found)
    return head.requires_grad_(False)


def _head_tensors(folder: Path) -> Iterator[tuple[str, Tensor]]:
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118  # not a mapping
                if _HEAD in name:
                    yield name.rpartition(".")[2], file.get_tensor(name)
