"""Kinds of models that packed rows or weight sync would do wrong, refused by name at the start."""

from typing import Any

from models.routing.replay import REPLAYING
from rl.console.errors import DoesNotFit, UserError

_WHOLE, _SLIDING, _CHUNKED = "full_attention", "sliding_attention", "chunked_attention"
_IMAGES_SEE_FORWARD = ("gemma3", "gemma3n", "paligemma")
"""Vision-language models, by `model_type`, whose image tokens attend to those behind them."""
_CROSS_ATTENTION = ("mllama",)
"""Vision-language models, by `model_type`, whose text looks at images beside the row."""
_EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts")
"""What configs call the number of a layer's experts."""
_EXPERTS_TRAVEL = (
    ("qwen3_moe", "qwen3_moe"),
    ("qwen3_vl_moe", "qwen3_vl_moe_text"),
    ("internvl", "qwen3_moe"),
)
"""Mixtures of experts whose weights reach engines, by their own and their language model's
`model_type`: tests hold that what is sent is what engines hold."""


def check_packing(config: Any, longest: int, keys: str) -> None:
    """Check that several answers in a row mean what each means alone.

    Args:
        config: the transformers config of the policy.
        longest: tokens of the longest row that one answer or chat can make.
        keys: the recipe's keys that decide `longest`.

    Raises:
        UserError: some layers look back less far than that, keep a state instead of attending, or
            look at images beside the row; image tokens look ahead; or the config asks for a loss of
            the router's.
    """
    text = config.get_text_config()
    # RecurrentGemma and its like call them by another name, and by words of their own.
    told = getattr(text, "layer_types", None) or getattr(text, "layers_block_type", None)
    kinds = {_WHOLE if kind == "attention" else kind for kind in told or (_WHOLE,)}
    if unknown := sorted(kinds - {_WHOLE, _SLIDING, _CHUNKED}):
        raise UserError(
            f"policy.path: {text.model_type} has layers of {', '.join(unknown)}, which carry a "
            "state from one answer of a row into the next; take a policy that attends in all layers"
        )
    window = _window(text, kinds)
    if window is not None and window < longest:
        raise UserError(
            f"policy.path: some layers of {text.model_type} look back {window} tokens only, which "
            f"engines heed and packed rows do not; {keys} allow {longest}: lower them to {window} "
            "together, or take another policy"
        )
    if config.model_type in _IMAGES_SEE_FORWARD:
        raise UserError(
            f"policy.path: image tokens of {config.model_type} attend to those behind them, and "
            "packed rows are causal throughout; take another policy"
        )
    if config.model_type in _CROSS_ATTENTION:
        raise UserError(
            f"policy.path: {config.model_type} looks at images by cross-attention, where each "
            "answer of a packed row would see the images of all, and vLLM has not served it since "
            "0.10.2; take another policy"
        )
    if getattr(text, "output_router_logits", False):
        raise UserError(
            f"policy.path: the config of {text.model_type} has output_router_logits=true, which "
            "asks for a loss that keeps its experts equally busy; training here adds none: set it "
            "to false in config.json"
        )


def _window(text: Any, kinds: set[str]) -> int | None:
    """Tokens that the layer with the shortest sight looks back; None: to the beginning."""
    if _CHUNKED in kinds:
        return text.attention_chunk_size
    if _SLIDING in kinds or not getattr(text, "layer_types", None):
        return getattr(text, "sliding_window", None)
    return None


def check_sync(config: Any) -> None:
    """Check that engines are known to take the policy's weights as they are sent.

    Raises:
        UserError: it is a mixture of experts that nobody has tried: learners hold a layer's experts
            joined, and checkpoints of each family have them apart in a way of their own.
    """
    kind = (config.model_type, config.get_text_config().model_type)
    if _has_experts(config) and kind not in _EXPERTS_TRAVEL:
        known = (_in_words(*each) for each in _EXPERTS_TRAVEL)
        raise UserError(
            f"policy.path: {_in_words(*kind)} is a mixture of experts whose weights are not known "
            f"to reach engines whole; rl/sft.py trains it, rl/grpo.py does not: take one of "
            f"{', '.join(known)}, or a dense policy"
        )


def check_routing_replay(config: Any) -> None:
    """Check that a policy of transformers' `config` has routers that can be told whom to choose.

    Raises:
        UserError: it has no experts, or routers of another kind.
    """
    kind = config.get_text_config().model_type
    if not _has_experts(config):
        raise UserError(
            f"rollout.routing_replay=true: {kind} is no mixture of experts, so that there is "
            "nothing to replay; set it to false"
        )
    if kind not in REPLAYING:
        raise UserError(
            f"rollout.routing_replay=true: routers of {kind} are not known here, only those of "
            f"{', '.join(REPLAYING)}; set it to false"
        )


def _has_experts(config: Any) -> bool:
    text = config.get_text_config()
    return any(getattr(text, name, None) for name in _EXPERTS)


def _in_words(own: str, language: str) -> str:
    """A policy by its own `model_type` and, where that is another, its language model's."""
    same = language in (own, f"{own}_text")
    return own if same else f"{own} around {language}"


def check_sequence_parallel(config: Any, ranks: int) -> None:
    """Check that `ranks` can share a row of a policy of transformers' `config`.

    Raises:
        DoesNotFit: they do not divide its attention heads, or its attention is not told of them.
    """
    if ranks == 1:
        return
    # Only then: it brings transformers' modelling code along, which takes a driver seconds.
    from models.policy.attention import by_spans

    text = config.get_text_config()
    heads = text.num_attention_heads
    if heads % ranks:
        fit = [size for size in range(1, heads + 1) if heads % size == 0]
        raise DoesNotFit(
            f"learner.sequence_parallel_size={ranks} does not divide the policy's {heads} "
            f"attention heads, of which each rank has a part; set it to one of {fit}"
        )
    if not by_spans(config):
        raise DoesNotFit(
            f"learner.sequence_parallel_size={ranks}: {text.model_type} does not tell its "
            "attention that a row lies on several ranks; set it to 1, or take another policy"
        )
