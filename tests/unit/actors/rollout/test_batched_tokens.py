"""How many tokens an engine reads in one pass."""

from typing import Any

import pytest

from actors.rollout.vllm_engine import batched_tokens
from configs.schema.rollout import EngineConfig


@pytest.mark.parametrize(
    ("own", "pieces", "tokens"),
    [
        ({}, True, 8192),  # however long a sequence may become
        ({}, False, 65_536),  # a whole one
        ({"max_num_seqs": 9000}, True, 9000),  # a token of each
        ({"engine_args": {"enable_chunked_prefill": False}}, True, 65_536),
        ({"engine_args": {"enable_chunked_prefill": True}}, False, 8192),
        ({"engine_args": {"max_num_batched_tokens": 4096}}, True, 4096),
    ],
)
def test_a_pass_holds_a_whole_sequence_only_where_none_is_read_in_pieces(
    own: dict[str, Any], pieces: bool, tokens: int
) -> None:
    assert batched_tokens(EngineConfig(**own), 65_536, pieces) == tokens
