"""The policy as a module: a transformers model that gives the logprobs of packed tokens.

Works on any vision-language model whose base (`model.model`) takes ids and pixels, and on text-only
causal models. The base runs once on a packed micro-batch; only positions that predict a trained
token reach the output layer.
"""

import io
from dataclasses import replace
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from configs.schema.rollout import WHOLE, DistributionConfig
from models.inputs.encoder import InputEncoder
from models.inputs.packing import PackedBatch
from models.policy.attention import all_spans, attend_by_spans, empty_mask, spans_of
from models.policy.features import FEATURES, FrozenTower, vision_inputs
from models.policy.logprobs import OutputLayer
from models.routing.replay import CHOSEN, replay_choices
from models.sequence_parallel.group import SequenceGroup
from models.sequence_parallel.split import own_targets, split_tokens, widened
from rl.data.records import Problem


class Policy(nn.Module):
    """A transformers model seen as log pi(answer tokens | prompt, images)."""

    def __init__(
        self,
        model: Any,
        encoder: InputEncoder,
        *,
        chunk: int,
        distribution: DistributionConfig = WHOLE,
    ) -> None:
        """`chunk`: positions whose logits are held at a time; `distribution`: what the sampler
        draws from."""
        super().__init__()
        self.model = model
        self._by_spans = attend_by_spans(model)
        replay_choices(model)
        self._chunk = chunk
        self._distribution = distribution
        self.register_buffer(
            "banned", torch.tensor(encoder.image_token_ids, dtype=torch.int64), persistent=False
        )
        self._dummy = DummyImage(encoder) if encoder.has_vision else None
        self._group: SequenceGroup | None = None
        self._padding = 0

    def share_rows(self, group: SequenceGroup, pad_id: int) -> None:
        """Share each row from now on: this rank carries its part of the tokens through the language
        model, and every rank of `group`, called with the same batch, gets the logprobs of all.

        `pad_id`: token that rows are filled up with to what the ranks divide.
        """
        assert self._by_spans, "ranks that share rows attend by spans"
        self._group, self._padding = group, pad_id
        split_tokens(self.model, group)

    def forward(self, batch: PackedBatch) -> tuple[Tensor, Tensor, Tensor]:
        """Logprobs and entropies of the N trained tokens of a batch on the policy's device.

        Returns:
            float32 [N] logprobs in nats at the sampling temperature; float32 [N] entropies in
            nats, without gradient; float32 [N, K] logprobs of `batch.teacher_ids`, K = 0 without.
        """
        batch = self._completed(batch)
        if self._group is None:
            hidden_NH = self._states(batch).flatten(0, 1)[batch.sources]
            return self._output().logprobs(hidden_NH, batch.targets, batch.teacher_ids)
        places_M, sources_M = own_targets(batch, self._group)
        hidden_MH = self._states(batch).flatten(0, 1)[sources_M]
        others = None if batch.teacher_ids is None else batch.teacher_ids[places_M]
        found = self._output().logprobs(hidden_MH, batch.targets[places_M], others)
        logprobs, entropies, of_others = (
            self._group.joined(own, places_M, len(batch.targets)) for own in found
        )
        return logprobs, entropies, of_others

    @torch.no_grad()
    def likeliest(
        self, batch: PackedBatch, count: int, vocabulary: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The `count` likeliest of the first `vocabulary` tokens at each trained position.

        Returns:
            float32 [N] logprobs of the trained tokens in nats, int64 [N, K] ids, float32 [N, K].
        """
        assert self._group is None, "a teacher is on a device of its own"
        batch = self._completed(batch)
        hidden_NH = self._states(batch).flatten(0, 1)[batch.sources]
        return self._output().likeliest(hidden_NH, batch.targets, count, vocabulary)

    def _output(self) -> OutputLayer:
        head = self.model.get_output_embeddings()
        return OutputLayer(head, self.banned, self._distribution, self._chunk)

    def _completed(self, batch: PackedBatch) -> PackedBatch:
        """The batch with what every rank has to see, and rows that ranks can divide."""
        if self._dummy is not None and not batch.pixels:
            batch = self._dummy.added_to(batch)
        return widened(batch, self._group, self._padding) if self._group else batch

    def _states(self, batch: PackedBatch) -> Tensor:
        """[B, T, H] in the model's precision; of this rank's part of T where rows are shared."""
        find = all_spans if self._group else spans_of
        spans = find(batch.segments) if self._by_spans else None
        mask = batch.attention_mask if spans is None else empty_mask(batch.segments.device)
        return self.model.model(
            input_ids=batch.input_ids,
            attention_mask=mask,
            position_ids=self._positions(batch),
            use_cache=False,
            **({"spans": spans} if self._by_spans else {}),
            **({} if batch.experts is None else {CHOSEN: batch.experts}),
            **vision_inputs(self.model.model, batch.pixels),
        )[0]

    def detach_vision_tower(self, device: torch.device, dtype: torch.dtype) -> FrozenTower:
        """Leave the tower out from now on, and with it a projector that is frozen, too: batches
        come with features in place of pixels."""
        tower = FrozenTower(self.model, device, dtype)
        assert self._dummy is not None, "a policy with a tower reads images"
        self._dummy.use_features(tower)
        return tower

    def leave_tower_to(self, other: "Policy", tower: FrozenTower) -> None:
        """Be without a tower, too: batches come with the features that `other` reads from its."""
        tower.replace_in(self.model)
        self._dummy = other._dummy

    def _positions(self, batch: PackedBatch) -> Tensor:
        """int64 [B, T], or [3, B, T] where images span time, height and width (M-RoPE).

        Such a model numbers a prompt's image tokens by their place in the picture; an answer goes
        on from the number that the prompt's last token got.
        """
        rope_index = getattr(self.model.model, "get_rope_index", None)
        if rope_index is None or "image_grid_thw" not in batch.pixels:
            return batch.position_ids
        in_prompt, ids, places_BT = batch.in_prompt, batch.input_ids, batch.position_ids
        rope_3BT, _ = rope_index(
            ids,
            mm_token_type_ids=(ids == self.model.config.image_token_id).int(),
            image_grid_thw=batch.pixels["image_grid_thw"],
            attention_mask=in_prompt.long(),
        )
        rope_3BT = rope_3BT.to(ids.device)
        # Chats of a row are numbered on from one another; each starts anew.
        start_BT = torch.arange(ids.shape[1], device=ids.device) - places_BT
        start_BT = start_BT.where(in_prompt, 0)
        rope_3BT = rope_3BT - rope_3BT.gather(2, start_BT.expand(3, -1, -1))
        last_B1 = (in_prompt & (start_BT == 0)).sum(1, keepdim=True) - 1
        shift_B1 = rope_3BT[0].gather(1, last_B1) - last_B1
        return torch.where(in_prompt, rope_3BT, places_BT + shift_B1)


def logprobs_by_answer(batch: PackedBatch, logprobs_N: Tensor) -> dict[int, tuple[float, ...]]:
    """Each answer's part of float32 [N], nats, by the answer's place in the step; no filler."""
    found: dict[int, list[float]] = {}
    real_N = batch.weights > 0
    values = logprobs_N[real_N].tolist()
    for answer, value in zip(batch.answers[real_N].tolist(), values, strict=True):
        found.setdefault(answer, []).append(value)
    return {answer: tuple(values) for answer, values in found.items()}


class DummyImage:
    """A chat of a blank picture, for batches without any.

    Every rank then runs the same modules in the same order: with sharded weights or gradients a
    rank that skipped the tower would leave the others waiting for ever. DeepSpeed even wants the
    calls to nest alike, so the picture goes the ordinary way, behind a row and read by no other.
    """

    def __init__(self, encoder: InputEncoder) -> None:
        buffer = io.BytesIO()
        Image.new("RGB", (28, 28)).save(buffer, format="PNG")
        problem = Problem(id="blank", question="", gold=("",), images=(buffer.getvalue(),))
        self._ids = torch.tensor(encoder.encode(problem), dtype=torch.int64)
        self._pixels = encoder.pixels([problem])
        self._pad_id = encoder.pad_id

    def use_features(self, tower: FrozenTower) -> None:
        """Come as features from now on."""
        self._pixels = {FEATURES: tower(self._pixels).cpu()}

    def added_to(self, batch: PackedBatch) -> PackedBatch:
        """The batch with the picture, its chat behind the first row."""
        device, length = batch.input_ids.device, len(self._ids)
        wider = batch.widened(length, self._pad_id)
        wider.input_ids[0, -length:] = self._ids.to(device)
        wider.position_ids[0, -length:] = torch.arange(length, device=device)
        wider.in_prompt[0, -length:] = True
        wider.segments[0, -length:] = batch.segments[0].max() + 1
        return replace(
            wider, pixels={name: value.to(device) for name, value in self._pixels.items()}
        )
