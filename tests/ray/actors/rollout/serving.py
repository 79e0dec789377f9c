"""Serves a policy's folder by a fresh vLLM engine, as a user would, and prints the token ids that
it answers greedily as JSON. Arguments: the folder, how many tokens, and the problems' numbers."""

import json
import os
import sys

os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
os.environ["VLLM_CPU_KVCACHE_SPACE"] = "1"

from vllm import LLM, SamplingParams

from models.inputs.encoder import InputEncoder
from rl.data.images import open_image
from tests.ray.system import problem, recipe


def main(folder: str, tokens: str, *numbers: str) -> None:
    """Each problem has one picture."""
    encoder = InputEncoder(folder, recipe(folder).prompt, False)
    engine = LLM(
        folder,
        dtype="float32",
        max_model_len=256,
        enforce_eager=True,
        limit_mm_per_prompt={"image": 1, "video": 0},
    )
    # Nothing of ours bans the image tokens here.
    allowed = [i for i in range(len(encoder.tokenizer)) if i not in encoder.image_token_ids]
    greedy = SamplingParams(temperature=0.0, max_tokens=int(tokens), allowed_token_ids=allowed)
    asked = [problem(int(number)) for number in numbers]
    prompts = [
        {
            "prompt_token_ids": list(encoder.short_ids(one)),
            "multi_modal_data": {"image": [open_image(image) for image in one.images]},
        }
        for one in asked
    ]
    said = engine.generate(prompts, greedy, use_tqdm=False)
    json.dump([list(output.outputs[0].token_ids) for output in said], sys.stdout)


if __name__ == "__main__":
    main(*sys.argv[1:])
