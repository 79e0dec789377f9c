"""What each round of a sync sends: everything once, then what learns and what is fused with it."""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch.nn import Parameter

from actors.weight_transfer.policy_source import PolicySource
from models.policy.checkpoint_weights import CheckpointWeight

LAYER = "model.layers.0"


def frozen() -> CheckpointWeight:
    return CheckpointWeight(Parameter(torch.zeros(2, 2), requires_grad=False))


def adapted() -> CheckpointWeight:
    down, up = Parameter(torch.zeros(1, 2)), Parameter(torch.zeros(2, 1))
    return CheckpointWeight(frozen().parameter, down, up, 1.0)


def whole(parameters: object) -> AbstractContextManager[None]:
    """Nothing is sharded."""
    return nullcontext()


WEIGHTS = {
    "model.embed_tokens.weight": frozen(),
    f"{LAYER}.self_attn.q_proj.weight": adapted(),
    f"{LAYER}.self_attn.q_proj.bias": frozen(),
    f"{LAYER}.self_attn.k_proj.weight": frozen(),
    f"{LAYER}.self_attn.v_proj.weight": adapted(),
    f"{LAYER}.mlp.gate_proj.weight": frozen(),
    f"{LAYER}.mlp.up_proj.weight": frozen(),
    f"{LAYER}.input_layernorm.weight": frozen(),
    "model.layers.1.mlp.gate_proj.weight": frozen(),
    "model.layers.1.mlp.up_proj.weight": adapted(),
    "lm_head.weight": frozen(),
}


def test_siblings_of_what_learns_are_sent_with_it_and_the_rest_only_once() -> None:
    source = PolicySource(WEIGHTS, whole)
    assert source.names() == list(WEIGHTS)
    for _ in source.iter_groups():
        pass
    source.finish()
    # Eleven matrices of 2 x 2 float32: adapters travel merged.
    assert source.bytes_sent == 11 * 16
    assert source.names() == [
        name for name in WEIGHTS if ".self_attn." in name or "layers.1.mlp" in name
    ]
    sent = [name for names, _ in source.iter_groups() for name in names]
    assert sorted(sent) == sorted(meta.name for meta in source.metadata()) == sorted(source.names())
    assert set(source.sums) == set(WEIGHTS)
    assert source.bytes_sent == len(sent) * 16


def test_a_joined_weight_travels_in_pieces_and_is_summed_whole() -> None:
    names = [f"{LAYER}.mlp.experts.{i}.up_proj.weight" for i in range(2)]
    joined = Parameter(torch.arange(8.0).view(2, 2, 2))
    weight = CheckpointWeight(
        joined, apart=lambda whole: dict(zip(names, whole.unbind(), strict=True))
    )
    source = PolicySource({"model.embed_tokens.weight": frozen(), names[0]: weight}, whole)
    sent = dict(source)
    assert list(sent) == ["model.embed_tokens.weight", *names]
    assert [(meta.name, meta.shape) for meta in source.metadata()] == [(n, (2, 2)) for n in sent]
    assert torch.equal(torch.stack([sent[name] for name in names]), joined)
    assert source.sums[names[0]] == (28.0, 140.0) and names[1] not in source.sums
    source.finish()
    assert source.names() == names[:1]
    assert [meta.name for meta in source.metadata()] == names


def test_what_is_announced_comes_in_the_order_in_which_it_is_sent() -> None:
    """Which is not the model's where a projector stands between the tower and the language."""
    names = ["vision.layers.0.m.weight", "projector.weight", "language.layers.0.m.weight", "head"]
    source = PolicySource({name: frozen() for name in names}, whole)
    announced = [meta.name for meta in source.metadata()]
    assert announced == [name for name, _ in source]
    assert announced == [names[0], names[2], names[1], names[3]]
