"""What an engine is given of a problem: token ids, with pictures or what is kept of them."""

from typing import Any

import torch

from models.inputs.encoder import InputEncoder
from models.policy.features import KeptEmbeddings
from rl.data.records import Problem

_NAMES = "multi_modal_uuids"


class EnginePrompts:
    """Makes vLLM's prompts."""

    def __init__(self, encoder: InputEncoder, dtype: torch.dtype) -> None:
        """`dtype`: the engine's precision."""
        self._encoder = encoder
        self._dtype = dtype

    def __call__(self, problem: Problem, kept: KeptEmbeddings | None = None) -> dict[str, Any]:
        """The problem by its short ids; its images as embeddings where all of them are `kept`, for
        vLLM takes a prompt's images in one way.

        Raises:
            ValueError: what is kept of an image has another number of tokens than the prompt.
        """
        ids = list(self._encoder.short_ids(problem))
        if not problem.images:
            return {"prompt_token_ids": ids}
        if kept is not None and (found := kept.find(problem.images)) is not None:
            self._check_lengths(problem, kept, found)
            return {
                "prompt_token_ids": ids,
                "multi_modal_data": {"image": [one.to(self._dtype) for _, one in found]},
                _NAMES: {"image": [key for key, _ in found]},  # else vLLM hashes every value
            }
        images = [self._encoder.images.open(image) for image in problem.images]
        return {"prompt_token_ids": ids, "multi_modal_data": {"image": images}}

    def _check_lengths(
        self, problem: Problem, kept: KeptEmbeddings, found: list[tuple[str, torch.Tensor]]
    ) -> None:
        for image, (key, embedding) in zip(problem.images, found, strict=True):
            wanted = self._encoder.image_tokens(image)
            if len(embedding) != wanted:
                raise ValueError(
                    f"problem {problem.id!r}: {kept.folder / key} holds {len(embedding)} tokens of "
                    f"an image that takes {wanted} in the prompt; delete the file, and it is made "
                    "again"
                )


def embedded_images(prompt: dict[str, Any]) -> int:
    """How many images of vLLM's prompt are embeddings."""
    return len(prompt[_NAMES]["image"]) if _NAMES in prompt else 0
