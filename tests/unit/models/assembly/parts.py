"""Small parts to put together: encoders, language models with tokenizers and chat templates."""

import json
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    CLIPVisionConfig,
    CLIPVisionModel,
    InternVLVisionConfig,
    InternVLVisionModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
    SiglipVisionConfig,
    SiglipVisionModel,
)

WIDTH = 32
_FAMILIES = {
    "qwen2": (Qwen2Config, Qwen2ForCausalLM),
    "qwen3": (Qwen3Config, Qwen3ForCausalLM),
    "llama": (LlamaConfig, LlamaForCausalLM),
}

# Templates in the manner of the models they are named for; all know content as one text only.
QWEN2 = """\
{%- if messages[0].role != 'system' -%}
<|im_start|>system
Be brief.<|im_end|>
{% endif -%}
{%- for message in messages -%}
{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}
"""
QWEN3 = """\
{%- set ns = namespace(last_query=-1) -%}
{%- for message in messages -%}
{%- if message.role == 'user' and message.content is string -%}
{%- set ns.last_query = loop.index0 -%}
{%- endif -%}
{%- endfor -%}
{%- for message in messages -%}
{%- set content = message.content if message.content is string else '' -%}
{%- if message.role == 'assistant' -%}
{%- set thoughts = message.reasoning_content if message.reasoning_content is defined else '' -%}
{{- '<|im_start|>assistant\\n' -}}
{%- if loop.index0 > ns.last_query -%}
{{- '<think>\\n' + thoughts + '\\n</think>\\n\\n' -}}
{%- endif -%}
{{- content + '<|im_end|>\\n' -}}
{%- else -%}
{{- '<|im_start|>' + message.role + '\\n' + content + '<|im_end|>\\n' -}}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{- '<|im_start|>assistant\\n' -}}
{%- if enable_thinking is defined and enable_thinking is false -%}
{{- '<think>\\n\\n</think>\\n\\n' -}}
{%- endif -%}
{%- endif -%}
"""
R1_DISTILL = """\
{%- set ns = namespace(system='') -%}
{%- for message in messages -%}
{%- if message['role'] == 'system' -%}{%- set ns.system = message['content'] -%}{%- endif -%}
{%- endfor -%}
{{- '<|begin|>' + ns.system -}}
{%- for message in messages -%}
{%- if message['role'] == 'user' -%}{{- '<|User|>' + message['content'] -}}{%- endif -%}
{%- if message['role'] == 'assistant' and message['content'] is not none -%}
{%- set content = message['content'] -%}
{%- if '</think>' in content -%}{%- set content = content.split('</think>')[-1] -%}{%- endif -%}
{{- '<|Assistant|>' + content + '<|end|>' -}}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|Assistant|><think>\\n' -}}{%- endif -%}
"""


def byte_tokenizer(special: tuple[str, ...] = (), chat_template: str = QWEN2) -> Any:
    """A tokenizer of single bytes that knows chat marks, think tags and `special`."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    cut = Tokenizer(models.BPE(vocab={byte: i for i, byte in enumerate(alphabet)}, merges=[]))
    cut.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    cut.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=cut, eos_token="<|im_end|>", pad_token="<|endoftext|>"
    )
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>", *special]})
    tokenizer.add_tokens(["<think>", "</think>"])
    tokenizer.chat_template = chat_template
    return tokenizer


def build_llm(folder: Path, family: str = "qwen2", seed: int = 0, **settings: Any) -> Any:
    """Save a random language model with a byte tokenizer, and return it.

    `settings` go to its config; `special`, `chat_template` to its tokenizer, `shard` to its files.
    """
    special, template = settings.pop("special", ()), settings.pop("chat_template", QWEN2)
    shard = settings.pop("shard", "5GB")
    tokenizer = byte_tokenizer(special, template)
    make_config, make_model = _FAMILIES[family]
    sizes: dict[str, Any] = {
        "vocab_size": len(tokenizer),
        "hidden_size": WIDTH,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 16,
        "max_position_embeddings": 256,
        "initializer_range": 0.2,
        "tie_word_embeddings": False,
        "bos_token_id": None,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    torch.manual_seed(seed)
    model = make_model(make_config(**sizes | settings)).eval()
    model.save_pretrained(folder, max_shard_size=shard)
    tokenizer.save_pretrained(folder)
    return model


def build_internvit(folder: Path, **settings: Any) -> Any:
    """Save a random InternVL encoder of 4 x 4 patches, and return it."""
    sizes: dict[str, Any] = {
        "hidden_size": 24,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 40,
        "image_size": (56, 56),
        "patch_size": (14, 14),
        "initializer_range": 0.2,
    }
    torch.manual_seed(1)
    return _saved(InternVLVisionModel(InternVLVisionConfig(**sizes | settings)), folder)


def build_siglip(folder: Path, **settings: Any) -> Any:
    """Save a random SigLIP encoder of 4 x 4 patches, and return it."""
    return _saved(SiglipVisionModel(SiglipVisionConfig(**_flat() | settings)), folder)


def build_clip(folder: Path, **settings: Any) -> Any:
    """Save a random CLIP encoder of 4 x 4 patches, and return it."""
    return _saved(CLIPVisionModel(CLIPVisionConfig(**_flat() | settings)), folder)


def _flat() -> dict[str, Any]:
    torch.manual_seed(2)
    return {
        "hidden_size": 24,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 40,
        "image_size": 56,
        "patch_size": 14,
    }


def _saved(model: Any, folder: Path) -> Any:
    for parameter in model.parameters():  # places and CLS begin at zero otherwise
        torch.nn.init.normal_(parameter, std=0.2)
    model.eval().save_pretrained(folder)
    return model


def config_of(folder: Path) -> dict[str, Any]:
    """The folder's config.json."""
    return json.loads((folder / "config.json").read_text())
