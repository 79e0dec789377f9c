"""The policy as a module: a transformers model that says how likely given answers are.

Works on any vision-language model whose base (`model.model`) takes ids and pixels, and on text-only
causal models. The base runs once on a packed micro-batch; only positions that predict an answer
token reach the output layer.
"""

import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText

from configs.schema import Part, PolicyConfig
from models.inputs import InputEncoder
from models.logprobs import token_logprobs
from models.packing import PackedBatch
from rl.records import Problem

_VISION = re.compile(r"(^|\.)(vision_tower|vision_model|visual|vision_encoder)\.")
_PROJECTOR = re.compile(r"(^|\.)(multi_modal_projector|mlp1|connector|merger)\.")


def part_of(parameter: str) -> Part:
    """Which part a parameter belongs to, by its name. Projectors inside a tower are projectors."""
    if _PROJECTOR.search(parameter):
        return "projector"
    return "vision" if _VISION.search(parameter) else "language"


def load_model(config: PolicyConfig, folder: str | Path) -> Any:
    """The transformers model in `folder`, in the recipe's precision, SDPA attention."""
    trust = {"trust_remote_code": config.trust_remote_code}
    hf_config = AutoConfig.from_pretrained(folder, **trust)
    has_vision = hasattr(hf_config, "vision_config")
    family = AutoModelForImageTextToText if has_vision else AutoModelForCausalLM
    dtype = getattr(torch, config.dtype)
    return family.from_pretrained(folder, dtype=dtype, attn_implementation="sdpa", **trust)


def freeze(model: nn.Module, train: Collection[Part]) -> None:
    """Let only the named parts learn.

    Raises:
        ValueError: the model has no parameter in any of them.
    """
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(part_of(name) in train)
    if not any(p.requires_grad for p in model.parameters()):
        found = sorted({part_of(name) for name, _ in model.named_parameters()})
        raise ValueError(
            f"policy.train={list(train)} leaves nothing to learn: the model has the parts {found}"
        )


class Policy(nn.Module):
    """A transformers model seen as log pi(answer tokens | prompt, images)."""

    def __init__(
        self, model: Any, encoder: InputEncoder, *, temperature: float, chunk: int
    ) -> None:
        """`temperature`: what the sampler divides its logits by; `chunk`: positions whose logits
        exist at a time."""
        super().__init__()
        self.model = model
        self._temperature = temperature
        self._chunk = chunk
        self.register_buffer(
            "banned", torch.tensor(encoder.image_token_ids, dtype=torch.int64), persistent=False
        )
        self._dummy = encoder.pixels([_blank_problem()]) if encoder.has_vision else {}

    def forward(self, batch: PackedBatch, pixels: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Logprobs and entropies of the batch's answer tokens.

        Args:
            batch: B rows of T tokens with N answer tokens.
            pixels: the processor's tensors for the rows' images in order; empty without images.

        Returns:
            float32 [N] logprobs in nats at the sampling temperature; float32 [N] entropies, no
            gradient.
        """
        inputs: dict[str, Any] = {
            "attention_mask": batch.attention_mask,
            "position_ids": batch.position_ids,
            "use_cache": False,
        }
        if pixels or not self._dummy:
            hidden_BTH = self.model.model(input_ids=batch.input_ids, **pixels, **inputs)[0]
        else:
            hidden_BTH = self.model.model(inputs_embeds=self._blind(batch.input_ids), **inputs)[0]
        return token_logprobs(
            self.model.get_output_embeddings(),
            hidden_BTH.flatten(0, 1)[batch.sources],
            batch.targets,
            banned=self.banned,
            temperature=self._temperature,
            chunk=self._chunk,
        )

    def _blind(self, input_ids: Tensor) -> Tensor:
        """Embeddings of a batch without images, with a blank image's features added zero times.

        Every rank then runs the same modules in the same order: with sharded weights or gradients
        a rank that skipped the tower would leave the others waiting for ever.
        """
        embeddings = self.model.get_input_embeddings()(input_ids)
        blank = {k: v.to(input_ids.device) for k, v in self._dummy.items()}
        features = self.model.model.get_image_features(**blank, return_dict=True).pooler_output
        if isinstance(features, (list, tuple)):
            features = torch.cat(list(features))
        return embeddings + 0.0 * features.sum().to(embeddings.dtype)


def _blank_problem() -> Problem:
    import io

    from PIL import Image

    buffer = io.BytesIO()
    Image.new("RGB", (28, 28)).save(buffer, format="PNG")
    return Problem(id="blank", question="", gold=("",), images=(buffer.getvalue(),))
