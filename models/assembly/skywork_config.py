"""config.json of the `*ChatModel` layout (Skywork R1V, InternVL) and of transformers' InternVL.

Settings that mean the same are renamed. Those that would change what the model computes and have no
counterpart are refused. Those that do not bear on the weights (a conversation template's name,
training switches) are kept under `chat_model` for the way back (paper, sections 6.2 and 6.5).
"Theirs" is the chat layout, "ours" is transformers.
"""

from collections.abc import Mapping
from typing import Any

from transformers import AutoConfig, InternVLConfig, InternVLVisionConfig

from models.assembly.language import FAMILIES
from models.assembly.skywork_names import Unmapped

VISION_TYPE = "intern_vit_6b"
CARRIED = "chat_model"
"""Key of transformers' config.json that keeps settings of the chat layout for the way back."""
KINDS = {
    "internvl": ("InternVLChatModel", "internvl_chat"),
    "skywork": ("SkyworkR1VChatModel", "skywork_chat"),
}
"""Architecture and model type of the layout's two flavours."""
CHAT_TYPES = tuple(model_type for _, model_type in KINDS.values())
_LLM_CLASSES = {
    "qwen2": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
    "llama": "LlamaForCausalLM",
}


def is_chat(raw: Mapping[str, Any]) -> bool:
    """Whether a config.json is one of the chat layout."""
    names = raw.get("architectures") or [""]
    return raw.get("model_type") in CHAT_TYPES or names[0].endswith("ChatModel")


# Their key, our key, and the value of a key that is missing in their config.json.
_VISION: tuple[tuple[str, str, Any], ...] = (
    ("hidden_size", "hidden_size", 3200),
    ("intermediate_size", "intermediate_size", 12800),
    ("num_hidden_layers", "num_hidden_layers", 48),
    ("num_attention_heads", "num_attention_heads", 25),
    ("num_channels", "num_channels", 3),
    ("patch_size", "patch_size", 14),
    ("image_size", "image_size", 224),
    ("qkv_bias", "attention_bias", False),
    ("qk_normalization", "use_qk_norm", True),
    ("norm_type", "norm_type", "rms_norm"),
    ("hidden_act", "hidden_act", "gelu"),
    ("layer_norm_eps", "layer_norm_eps", 1e-6),
    ("attention_dropout", "attention_dropout", 0.0),
    ("dropout", "projection_dropout", 0.0),
    ("initializer_range", "initializer_range", 0.02),
    ("initializer_factor", "layer_scale_init_value", 0.1),
)
_QK_NORM_EPS = 1e-6
"""Epsilon of transformers' query and key norms, whatever its config says."""
_MAPPED = {"architectures", "model_type", "vision_config", "llm_config", "downsample_ratio"}
_MAPPED |= {"ps_version", "select_layer", "tie_word_embeddings", "torch_dtype", "dtype"}
_MAPPED |= {"force_image_size", "hidden_size"}
"""Their keys with a counterpart in transformers' config; the rest is kept under `CARRIED`."""


def vision_config(theirs: Mapping[str, Any]) -> InternVLVisionConfig:
    """The vision section of a chat config, or an InternViT's own config, as transformers' config.

    Raises:
        Unmapped: it normalises queries and keys with another epsilon than transformers does.
    """
    values = {ours: theirs.get(key, default) for key, ours, default in _VISION}
    eps = values["layer_norm_eps"]
    if values["use_qk_norm"] and eps != _QK_NORM_EPS:
        raise Unmapped(
            f"vision_config.layer_norm_eps={eps} with qk_normalization: transformers normalises "
            f"queries and keys with {_QK_NORM_EPS} only"
        )
    return InternVLVisionConfig(**values)


def as_transformers_config(theirs: Mapping[str, Any]) -> tuple[InternVLConfig, list[str]]:
    """A chat config as transformers' config, without the image token's id, which the tokenizer has.

    Returns:
        The config, and the names of the settings that it only keeps for the way back.

    Raises:
        Unmapped: with every setting that transformers' InternVL cannot follow.
    """
    if faults := _faults(theirs):
        raise Unmapped("transformers' InternVL cannot follow " + "; ".join(faults))
    llm = dict(theirs["llm_config"])
    llm["model_type"] = _family(llm)
    text = AutoConfig.for_model(**llm)
    vision = vision_config(theirs["vision_config"])
    ratio = theirs.get("downsample_ratio", 0.5)
    grid = vision.image_size[0] // vision.patch_size[0]
    rest = {key: value for key, value in theirs.items() if key not in _MAPPED}
    known = {key for key, _, _ in _VISION} | {"model_type"}
    vision_rest = {k: v for k, v in theirs["vision_config"].items() if k not in known}
    config = InternVLConfig(
        vision_config=vision,
        text_config=text,
        image_seq_length=int((grid * ratio) ** 2),
        downsample_ratio=ratio,
        tie_word_embeddings=text.tie_word_embeddings,
        architectures=["InternVLForConditionalGeneration"],
        **{CARRIED: {**rest, "vision_config": vision_rest}},
    )
    dtype = theirs.get("dtype") or theirs.get("torch_dtype") or llm.get("torch_dtype")
    if dtype:
        config.dtype = dtype
    return config, sorted(rest)


def as_chat_config(config: InternVLConfig, layout: str, tiles: tuple[int, int]) -> dict[str, Any]:
    """transformers' config as a chat config.

    Args:
        layout: a key of `KINDS`.
        tiles: fewest and most tiles of an image.

    Raises:
        Unmapped: with every setting that the chat layout cannot follow.
    """
    architecture, model_type = KINDS[layout]
    vision: Any = config.vision_config
    text: Any = config.text_config
    faults: list[str] = []
    if text.model_type not in FAMILIES:
        faults.append(f"a {text.model_type!r} language model; only {', '.join(FAMILIES)} are known")
    if config.vision_feature_layer != -1:
        faults.append(f"vision_feature_layer={config.vision_feature_layer}; engines read the last")
    if config.projector_hidden_act != "gelu":
        faults.append(f"projector_hidden_act={config.projector_hidden_act!r}; mlp1 has gelu")
    if vision.use_qk_norm and vision.layer_norm_eps != _QK_NORM_EPS:
        faults.append(
            f"layer_norm_eps={vision.layer_norm_eps} with use_qk_norm: it is the epsilon of query "
            f"and key norms too, where transformers has {_QK_NORM_EPS}"
        )
    if not vision.use_mean_pooling or vision.use_mask_token:
        faults.append("the tower's final norm or mask token")
    if faults:
        raise Unmapped("the chat layout cannot hold " + "; ".join(faults))
    carried: dict[str, Any] = dict(getattr(config, CARRIED, None) or {})
    their_vision: dict[str, Any] = carried.pop("vision_config", {})
    their_vision |= {key: getattr(vision, ours) for key, ours, _ in _VISION}
    their_vision |= {key: _side(their_vision[key]) for key in ("image_size", "patch_size")}
    tiling: dict[str, Any] = {}
    if not carried or tiles_of(carried) != tiles:
        tiling = {
            "dynamic_image_size": tiles[1] > 1,
            "use_thumbnail": True,
            "min_dynamic_patch": tiles[0],
            "max_dynamic_patch": tiles[1],
        }
    return {
        "template": "internvl2_5",
        **carried,
        **tiling,
        "architectures": [architecture],
        "model_type": model_type,
        "downsample_ratio": config.downsample_ratio,
        "force_image_size": their_vision["image_size"],
        "hidden_size": text.hidden_size,
        "ps_version": "v2",
        "select_layer": -1,
        "tie_word_embeddings": text.tie_word_embeddings,
        "torch_dtype": str(config.dtype or text.dtype).removeprefix("torch."),
        "vision_config": their_vision | {"model_type": VISION_TYPE},
        "llm_config": _older(text),
    }


def tiles_of(theirs: Mapping[str, Any]) -> tuple[int, int]:
    """Fewest and most tiles of an image by a chat config."""
    if not theirs.get("dynamic_image_size", False):
        return 1, 1
    return theirs.get("min_dynamic_patch", 1), theirs.get("max_dynamic_patch", 6)


def _older(text: Any) -> dict[str, Any]:
    """A language model's config by the older names that readers of the chat layout know."""
    llm = text.to_dict() | {"architectures": [_LLM_CLASSES[text.model_type]]}
    rope: dict[str, Any] = llm.pop("rope_parameters")
    llm["rope_theta"] = rope.pop("rope_theta")
    llm["rope_scaling"] = rope if rope["rope_type"] != "default" else None
    return llm


def _faults(theirs: Mapping[str, Any]) -> list[str]:
    """The settings of a chat config that transformers' InternVL cannot follow."""
    faults: list[str] = []
    version = theirs.get("ps_version", "v1")
    if version != "v2":
        faults.append(
            f"ps_version={version!r} (v1 where none is written): v1 hands a tile's tokens on "
            "column after column. The encoder numbers patches row after row, so no change of "
            "weights puts its tokens in that order, and transformers knows v2 only"
        )
    layer = theirs.get("select_layer", -1)
    if layer != -1:
        faults.append(f"select_layer={layer}: engines read the last layer only")
    for switch in ("use_backbone_lora", "use_llm_lora"):
        if theirs.get(switch):
            faults.append(f"{switch}={theirs[switch]}: merge the adapter into the weights first")
    size = theirs["vision_config"].get("image_size", 224)
    forced = theirs.get("force_image_size") or size
    if forced != size:
        faults.append(
            f"force_image_size={forced} with places learned for {size} pixels: transformers "
            "stretches no places; resize position_embedding first"
        )
    if _family(theirs["llm_config"]) not in FAMILIES:
        faults.append(
            f"language model {theirs['llm_config'].get('architectures')}: only "
            f"{', '.join(FAMILIES)} are known (InternLM2 fuses its projections in another way)"
        )
    return faults


def _family(llm: Mapping[str, Any]) -> str:
    classes = {name: family for family, name in _LLM_CLASSES.items()}
    names = llm.get("architectures") or [""]
    return classes.get(names[0]) or str(llm.get("model_type"))


def _side(size: Any) -> int:
    return int(size[0] if isinstance(size, list | tuple) else size)
