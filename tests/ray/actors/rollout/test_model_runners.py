"""Each of vLLM's model runners takes the engine's settings and requests, without an engine."""

import math
from pathlib import Path

import pytest

from actors.rollout.vllm_engine import engine_args, sampling_params
from configs.schema.rollout import Transport
from models.inputs.encoder import InputEncoder
from rl.data.records import SamplingRequest
from tests.ray.system import recipe

pytestmark = [pytest.mark.ray]


@pytest.mark.parametrize("transport", ["nccl", "ipc", "gloo"])
@pytest.mark.parametrize("runner", ["0", "1"])  # V1, and V2, which engines on CUDA have
def test_both_model_runners_take_engine_settings_and_requests(
    vlm_folder: Path, runner: str, transport: Transport, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vllm.v1.engine.input_processor import InputProcessor

    monkeypatch.setenv("VLLM_USE_V2_MODEL_RUNNER", runner)
    monkeypatch.setattr("vllm.config.vllm.HAS_TRITON", True)  # as it is on CUDA
    own = recipe(vlm_folder)
    args = engine_args(vlm_folder, own.policy, own.prompt, own.rollout, transport, has_vision=True)
    config = args.create_engine_config()
    assert config.use_v2_model_runner is (runner == "1")
    banned = InputEncoder(vlm_folder, own.prompt, trust_remote_code=False).image_token_ids
    request = SamplingRequest(count=4, temperature=1.0, max_new_tokens=8, seed=1)
    params = sampling_params(request, banned)
    InputProcessor(config)._validate_params(params, ("generate",))
    assert params.logit_bias == {token: -math.inf for token in banned}
    assert banned
