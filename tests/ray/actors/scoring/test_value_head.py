"""A reward model in an actor: scores in order, cut into grades."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from actors.scoring.value_head import ValueHeadScorer
from configs.schema.quality import QualityConfig
from configs.schema.reward import RewardConfig
from rewards.quality.chains import GradedChain
from rl.data.records import Problem
from rl.jobs.quality import quality_of
from tests.unit.step_samples import png
from tests.vision_families import build_qwen2_5_vl

pytestmark = pytest.mark.ray

CHAINS = [
    GradedChain(Problem(str(n), "how many?", (str(n),), (png(56, 56),) * (n % 2)), f"{n} it is")
    for n in range(13)
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    where = tmp_path_factory.mktemp("scorer")
    build_qwen2_5_vl(where)
    weight = torch.randn(1, 128, generator=torch.Generator().manual_seed(1))
    save_file({"v_head.summary.weight": weight}, where / "value_head.safetensors")
    return where


def config(folder: Path, **fields: Any) -> QualityConfig:
    own = {"path": str(folder), "dtype": "float32", "batch": 2, "workers": 1} | fields
    return QualityConfig.model_validate({"kind": "value_head", "value_head": own})


def test_grades_by_quantiles_of_all_and_by_thresholds(cluster: None, folder: Path) -> None:
    head = config(folder).value_head
    assert head is not None
    scores = [float(score) for score in ValueHeadScorer(head).score(CHAINS)]
    ranks = [sorted(scores).index(score) for score in scores]
    found = list(quality_of(CHAINS, config(folder), RewardConfig()))
    # Of 13 scores the quantile q lies at rank 12 q: 1.2, 3, 5.4, 7.8 and 10.2.
    assert [quality.grade for quality in found] == [
        sum(rank >= cut for cut in (1.2, 3, 5.4, 7.8, 10.2)) for rank in ranks
    ]
    # Between two scores: how the batches fall moves a score by its last digits.
    middle = sum(sorted(scores)[5:7]) / 2
    cuts = [middle - 2000, middle - 1000, middle, middle + 1000, middle + 2000]
    absolute = config(folder, cuts="thresholds", cut_points=cuts)
    streamed: Iterator[Any] = quality_of(CHAINS, absolute, RewardConfig())
    assert [q.grade for q in streamed] == [2 + (rank >= 6) for rank in ranks]
