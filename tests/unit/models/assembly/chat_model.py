"""The `*ChatModel` of Skywork R1V and InternVL: its forward pass, and random checkpoints of it.

A second reading of the layout, straight from its tensors, to hold conversions against: tower with
fused queries, keys and values, layer scale, pixel shuffle of version 2, and mlp1.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor
from transformers import Qwen2Config, Qwen2ForCausalLM

from tests.unit.models.assembly.parts import byte_tokenizer

GRID, PATCH, WIDTH, HEADS, LAYERS, MLP = 4, 14, 24, 2, 2, 40
SPECIAL = ("<img>", "</img>", "<IMG_CONTEXT>", "<quad>", "</quad>")


@dataclass(frozen=True, slots=True)
class ChatModel:
    """A checkpoint in memory."""

    tensors: dict[str, Tensor]
    config: dict[str, Any]
    image_token: int

    def logits(self, ids: Tensor, pixels: Tensor) -> Tensor:
        """Next-token logits [T, V] after the tokens `ids` [T] with the tiles `pixels`."""
        llm = Qwen2ForCausalLM(Qwen2Config(**self.config["llm_config"])).eval()
        start = "language_model."
        own = {k.removeprefix(start): v for k, v in self.tensors.items() if k.startswith(start)}
        llm.load_state_dict(own, strict=not self.config["llm_config"]["tie_word_embeddings"])
        seen = llm.get_input_embeddings()(ids).clone()
        seen[ids == self.image_token] = self.features(pixels).flatten(0, 1)
        return llm(inputs_embeds=seen[None]).logits[0]

    def features(self, pixels: Tensor) -> Tensor:
        """What the language model is given for each tile: [tiles, tokens, its width]."""
        patches = self.tower(pixels)[:, 1:].unflatten(1, (GRID, GRID))
        rows = [patches[:, i::2, j::2] for i in (0, 1) for j in (0, 1)]
        folded = torch.cat(rows, dim=-1).flatten(1, 2)
        w = self.tensors
        normed = F.layer_norm(folded, folded.shape[-1:], w["mlp1.0.weight"], w["mlp1.0.bias"])
        inner = F.gelu(F.linear(normed, w["mlp1.1.weight"], w["mlp1.1.bias"]))
        return F.linear(inner, w["mlp1.3.weight"], w["mlp1.3.bias"])

    def tower(self, pixels: Tensor) -> Tensor:
        """The encoder's last states, CLS first: [tiles, 1 + patches, width]."""
        w = {k.removeprefix("vision_model."): v for k, v in self.tensors.items()}
        at = "embeddings.patch_embedding"
        patches = F.conv2d(pixels, w[f"{at}.weight"], w[f"{at}.bias"], stride=PATCH)
        cls = w["embeddings.class_embedding"].expand(len(pixels), 1, WIDTH)
        h = torch.cat([cls, patches.flatten(2).mT], dim=1) + w["embeddings.position_embedding"]
        for number in range(LAYERS):
            start = f"encoder.layers.{number}."
            block = {k.removeprefix(start): v for k, v in w.items() if k.startswith(start)}
            h = h + block["ls1"] * self._attention(block, self._norm(block, "norm1", h))
            inner = self._norm(block, "norm2", h)
            inner = F.gelu(F.linear(inner, block["mlp.fc1.weight"], block["mlp.fc1.bias"]))
            h = h + block["ls2"] * F.linear(inner, block["mlp.fc2.weight"], block["mlp.fc2.bias"])
        return h

    def _norm(self, block: dict[str, Tensor], name: str, h: Tensor) -> Tensor:
        if f"{name}.bias" in block:
            return F.layer_norm(h, (WIDTH,), block[f"{name}.weight"], block[f"{name}.bias"], 1e-6)
        return F.rms_norm(h, (WIDTH,), block[f"{name}.weight"], 1e-6)

    def _attention(self, block: dict[str, Tensor], h: Tensor) -> Tensor:
        q, k, v = F.linear(h, block["attn.qkv.weight"], block.get("attn.qkv.bias")).chunk(3, -1)
        if "attn.q_norm.weight" in block:  # over all heads together
            q = F.rms_norm(q, (WIDTH,), block["attn.q_norm.weight"], 1e-6)
            k = F.rms_norm(k, (WIDTH,), block["attn.k_norm.weight"], 1e-6)
        q, k, v = (each.unflatten(-1, (HEADS, -1)).transpose(1, 2) for each in (q, k, v))
        share = (q @ k.mT / (WIDTH // HEADS) ** 0.5).softmax(-1)
        joined = (share @ v).transpose(1, 2).flatten(2)
        return F.linear(joined, block["attn.proj.weight"], block["attn.proj.bias"])


def build_chat_model(
    folder: Path, *, qk_norm: bool = True, tied: bool = False, shards: int = 1, **settings: Any
) -> ChatModel:
    """Save a random checkpoint in the chat layout; `settings` go to the top of its config."""
    tokenizer = byte_tokenizer(SPECIAL)
    tokenizer.save_pretrained(folder)
    config = chat_config(len(tokenizer), qk_norm, tied) | settings
    generator = torch.Generator().manual_seed(0)
    tensors = {
        name: 0.3 * torch.randn(shape, generator=generator) + ("norm" in name)
        for name, shape in (_tower_shapes(qk_norm) | _projector_shapes()).items()
    }
    torch.manual_seed(0)
    llm = Qwen2ForCausalLM(Qwen2Config(**config["llm_config"]))
    tensors |= {f"language_model.{k}": v for k, v in llm.state_dict().items()}
    if tied:
        tensors.pop("language_model.lm_head.weight")
    save_checkpoint(folder, tensors, shards)
    (folder / "config.json").write_text(json.dumps(config))
    return ChatModel(tensors, config, tokenizer.convert_tokens_to_ids("<IMG_CONTEXT>"))


def save_checkpoint(folder: Path, tensors: dict[str, Tensor], shards: int) -> None:
    """Write `tensors` to so many files, neighbours scattered over them."""
    where = {name: i % shards for i, name in enumerate(tensors)}
    names = [f"model-{i + 1:05d}-of-{shards:05d}.safetensors" for i in range(shards)]
    for i, file in enumerate(names):
        save_file({k: v.contiguous() for k, v in tensors.items() if where[k] == i}, folder / file)
    index = {"metadata": {}, "weight_map": {name: names[i] for name, i in where.items()}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def chat_config(vocab: int, qk_norm: bool, tied: bool) -> dict[str, Any]:
    """config.json of a small Skywork R1V."""
    return {
        "architectures": ["SkyworkR1VChatModel"],
        "model_type": "skywork_chat",
        "downsample_ratio": 0.5,
        "dynamic_image_size": True,
        "force_image_size": GRID * PATCH,
        "hidden_size": 32,
        "max_dynamic_patch": 6,
        "min_dynamic_patch": 1,
        "ps_version": "v2",
        "select_layer": -1,
        "template": "skywork_chat",
        "torch_dtype": "float32",
        "use_thumbnail": True,
        "vision_config": {
            "model_type": "intern_vit_6b",
            "hidden_size": WIDTH,
            "intermediate_size": MLP,
            "num_hidden_layers": LAYERS,
            "num_attention_heads": HEADS,
            "patch_size": PATCH,
            "image_size": GRID * PATCH,
            "qk_normalization": qk_norm,
            "qkv_bias": not qk_norm,
            "norm_type": "rms_norm" if qk_norm else "layer_norm",
            "drop_path_rate": 0.1,
        },
        "llm_config": {
            "architectures": ["Qwen2ForCausalLM"],
            "model_type": "qwen2",
            "vocab_size": vocab,
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "rope_theta": 5000.0,
            "rms_norm_eps": 1e-5,
            "initializer_range": 0.2,
            "tie_word_embeddings": tied,
        },
    }


def _tower_shapes(qk_norm: bool) -> dict[str, tuple[int, ...]]:
    start = "vision_model.embeddings."
    shapes: dict[str, tuple[int, ...]] = {
        f"{start}class_embedding": (1, 1, WIDTH),
        f"{start}position_embedding": (1, GRID**2 + 1, WIDTH),
        f"{start}patch_embedding.weight": (WIDTH, 3, PATCH, PATCH),
        f"{start}patch_embedding.bias": (WIDTH,),
    }
    linear = {"attn.proj": (WIDTH, WIDTH), "mlp.fc1": (MLP, WIDTH), "mlp.fc2": (WIDTH, MLP)}
    vectors = ["norm1.weight", "norm2.weight", "ls1", "ls2"]
    vectors += ["attn.q_norm.weight", "attn.k_norm.weight"] * qk_norm
    vectors += ["norm1.bias", "norm2.bias"] * (not qk_norm)
    for number in range(LAYERS):
        block = f"vision_model.encoder.layers.{number}."
        shapes[f"{block}attn.qkv.weight"] = (3 * WIDTH, WIDTH)
        if not qk_norm:
            shapes[f"{block}attn.qkv.bias"] = (3 * WIDTH,)
        shapes |= {f"{block}{name}": (WIDTH,) for name in vectors}
        shapes |= {f"{block}{name}.weight": shape for name, shape in linear.items()}
        shapes |= {f"{block}{name}.bias": shape[:1] for name, shape in linear.items()}
    return shapes


def _projector_shapes() -> dict[str, tuple[int, ...]]:
    return {
        "mlp1.0.weight": (4 * WIDTH,),
        "mlp1.0.bias": (4 * WIDTH,),
        "mlp1.1.weight": (32, 4 * WIDTH),
        "mlp1.1.bias": (32,),
        "mlp1.3.weight": (32, 32),
        "mlp1.3.bias": (32,),
    }
