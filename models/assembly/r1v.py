"""R1V put together: a vision encoder, a projector, and a language model (paper, section 2.1).

`plan_assembly` joins an encoder and a language model by a new projector; `plan_swap` gives an
assembled model another language model of the same family and width, and keeps the projector.
`Assembly.write` then streams weights from file to file into an ordinary transformers folder.
"""

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import (
    GenerationConfig,
    GotOcr2ImageProcessor,
    InternVLConfig,
    InternVLForConditionalGeneration,
)

from configs.jobs.assembly import AssembleOptions
from models.assembly import modeling_r1v
from models.assembly.language import Language, read_language
from models.assembly.modeling_r1v import R1VConfig, R1VForConditionalGeneration
from models.assembly.processor import check_tokenizer, image_processor, processor
from models.assembly.shards import GIB, LazyTensor, Shards, local_folder, write_shards
from models.assembly.skywork_names import in_module, on_disk
from models.assembly.towers import PIXEL_SHUFFLE, is_internvl, read_tower
from rl.console.errors import UserError, as_user_error
from rl.storage.atomic import atomic_folder

_TOWER, _PROJECTOR, _LANGUAGE = "vision_tower.", "multi_modal_projector.", "language_model."
HEAD = "language_model.lm_head.weight"
"""The output layer on disk; there is none where it is tied to the embeddings."""
_KINDS = {kind.model_type: kind for kind in (InternVLConfig, R1VConfig)}
_AUTO_MAP = {
    "AutoConfig": "modeling_r1v.R1VConfig",
    "AutoModel": "modeling_r1v.R1VModel",
    "AutoModelForImageTextToText": "modeling_r1v.R1VForConditionalGeneration",
}


@dataclass(frozen=True, slots=True)
class Assembly:
    """A model that fits together and can be written."""

    config: InternVLConfig
    plan: Mapping[str, LazyTensor]
    """All weights by the names that transformers writes."""
    processor: Any
    language: Language
    shard_gib: float

    def write(self, out: Path, written: Callable[[str], object] = lambda name: None) -> None:
        """Write the folder `out`, whole or not at all; `written` gets each tensor's name.

        Raises:
            ValueError: `out` is there already, or the tokenizer would be read back as another.
        """
        with atomic_folder(out) as aside:
            self.config.save_pretrained(aside)
            self.processor.save_pretrained(aside)
            if isinstance(self.config, R1VConfig):
                shutil.copyfile(modeling_r1v.__file__, aside / Path(modeling_r1v.__file__).name)
            if (self.language.folder / "generation_config.json").is_file():
                GenerationConfig.from_pretrained(self.language.folder).save_pretrained(aside)
            check_tokenizer(self.language.tokenizer, aside)
            write_shards(aside, self.plan, int(self.shard_gib * GIB), written)


def plan_assembly(vision: Path | str, llm: Path | str, options: AssembleOptions) -> Assembly:
    """An R1V of a vision encoder, a new projector and a language model.

    Args:
        vision, llm: folders or hub names.

    Raises:
        ValueError: the parts do not fit, or cannot be read.
    """
    tower = read_tower(vision, options.normalise)
    language = read_language(llm)
    if is_internvl(tower) and options.feature_layer != -1:
        raise UserError(
            f"options.feature_layer={options.feature_layer}: engines read InternVL's own encoder "
            "at its last layer only; leave it at -1"
        )
    config = (InternVLConfig if is_internvl(tower) else R1VConfig)(
        vision_config=tower.config,
        text_config=language.config,
        image_token_id=language.image_token_id,
        image_seq_length=(tower.grid // PIXEL_SHUFFLE) ** 2,
        downsample_ratio=1 / PIXEL_SHUFFLE,
        vision_feature_layer=options.feature_layer,
        vision_feature_select_strategy="default" if tower.has_cls else "full",
        tie_word_embeddings=language.config.tie_word_embeddings,
    )
    plan = {_TOWER + name: tensor for name, tensor in tower.plan.items()}
    plan |= _new_projector(config, options.seed)
    tiles = (options.min_tiles, options.max_tiles)
    images = image_processor(tower.image_size, tiles, tower.mean, tower.std)
    return _assembly(config, plan, images, language, options)


@as_user_error()
def plan_swap(
    base: Path | str, llm: Path | str, options: AssembleOptions | None = None
) -> Assembly:
    """The vision encoder and projector of `base` on another language model.

    Args:
        base, llm: folders or hub names.
        options: only new_rows, seed, dtype and shard_gib count.

    Raises:
        ValueError: width or family of the language models differ, or a part cannot be read.
    """
    options = options or AssembleOptions()
    folder = local_folder(base)
    kind = json.loads((folder / "config.json").read_text("utf-8"))["model_type"]
    if kind not in _KINDS:
        raise UserError(
            f"{base} is a {kind!r} model, not an assembled one ({', '.join(_KINDS)}); convert or "
            "assemble it first"
        )
    config: Any = _KINDS[kind].from_pretrained(folder)
    language = read_language(llm)
    _refuse_strangers(base, config.text_config, llm, language.config)
    shards = Shards(folder)
    plan = {on_disk(name): shards.planned(name) for name in shards}
    plan = {name: plan[name] for name in plan if name.startswith((_TOWER, _PROJECTOR))}
    config.text_config = language.config
    config.image_token_id = language.image_token_id
    config.tie_word_embeddings = language.config.tie_word_embeddings
    images = GotOcr2ImageProcessor.from_pretrained(folder)
    return _assembly(config, plan, images, language, options)


def _assembly(
    config: Any,
    sight: Mapping[str, LazyTensor],
    images: Any,
    language: Language,
    options: AssembleOptions,
) -> Assembly:
    """The model of a tower and projector (`sight`) and a language model, in one precision."""
    spoken = language.planned(options.new_rows, options.seed)
    plan = {**sight, **{_LANGUAGE + name: tensor for name, tensor in spoken.items()}}
    config.dtype = language.dtype if options.dtype == "auto" else getattr(torch, options.dtype)
    plan = {name: _cast(tensor, config.dtype) for name, tensor in plan.items()}
    check_shapes(config, plan)
    model = _model_class(config)
    config.architectures = [model.__name__]
    if model is R1VForConditionalGeneration:
        config.auto_map = _AUTO_MAP
        plan = {in_module(name): tensor for name, tensor in plan.items()}
    made = processor(images, language.tokenizer, config.image_seq_length, language.chat_template)
    return Assembly(config, plan, made, language, options.shard_gib)


def _refuse_strangers(base: Path | str, has: Any, llm: Path | str, wants: Any) -> None:
    if has.model_type != wants.model_type:
        raise UserError(
            f"{base} speaks through a {has.model_type!r} model and {llm} is a "
            f"{wants.model_type!r} one; a projector carries over within a family only (paper, "
            "section 2.1): name a language model of the same family"
        )
    if has.hidden_size != wants.hidden_size:
        raise UserError(
            f"the projector of {base} writes vectors {has.hidden_size} wide and {llm} reads "
            f"{wants.hidden_size}; name a language model of the same width"
        )


def check_shapes(config: InternVLConfig, plan: Mapping[str, LazyTensor]) -> None:
    """Check that `plan` has each tensor of the model that `config` describes, and no other.

    Raises:
        ValueError: with the first few names that are missing, too many or of another shape.
    """
    wanted = expected_shapes(config)
    missing = [name for name in wanted if name not in plan]
    extra = [name for name in plan if name not in wanted]
    other = [
        f"{name} is {plan[name].shape}, not {shape}"
        for name, shape in wanted.items()
        if name in plan and plan[name].shape != shape
    ]
    faults = [f"{len(missing)} weights are missing ({', '.join(missing[:3])})"] if missing else []
    faults += [f"{len(extra)} weights are not known ({', '.join(extra[:3])})"] if extra else []
    faults += other[:3]
    if faults:
        raise UserError(f"the weights do not match config.json: {'; '.join(faults)}")


def expected_shapes(config: InternVLConfig) -> dict[str, tuple[int, ...]]:
    """Names on disk and shapes of the weights of `config`'s model, built on the meta device."""
    with torch.device("meta"):
        model = _model_class(config)(config)
    shapes = {on_disk(name): tuple(t.shape) for name, t in model.state_dict().items()}
    if config.tie_word_embeddings:
        shapes.pop(HEAD)
    return shapes


def _model_class(config: InternVLConfig) -> type[InternVLForConditionalGeneration]:
    own = isinstance(config, R1VConfig)
    return R1VForConditionalGeneration if own else InternVLForConditionalGeneration


def _new_projector(config: Any, seed: int) -> dict[str, LazyTensor]:
    """Weights of LayerNorm, Linear, GELU, Linear as torch initialises them, drawn from `seed`."""
    folded = config.vision_config.hidden_size * PIXEL_SHUFFLE**2
    width = config.text_config.hidden_size
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layers = {
            "layer_norm": nn.LayerNorm(folded),
            "linear_1": nn.Linear(folded, width),
            "linear_2": nn.Linear(width, width),
        }
    return {
        f"{_PROJECTOR}{layer}.{name}": LazyTensor(tuple(weight.shape), weight.dtype, weight.detach)
        for layer, module in layers.items()
        for name, weight in module.named_parameters()
    }


def _cast(planned: LazyTensor, dtype: torch.dtype) -> LazyTensor:
    return replace(planned, dtype=dtype, make=lambda: planned.make().to(dtype))
