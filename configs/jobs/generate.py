"""What recipes share whose policy answers and does not learn."""

from typing import Literal

from configs.schema.data import PromptConfig
from configs.schema.policy import ModelConfig
from configs.schema.reward import RewardConfig
from configs.schema.rollout import EngineConfig
from configs.schema.run import ClusterConfig, RunRecipe


class GenerationRecipe(RunRecipe):
    """Engines that answer, and rewards that score."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto: cuda where the cluster has GPUs."""
    policy: ModelConfig
    """The model that answers."""
    prompt: PromptConfig = PromptConfig()
    rollout: EngineConfig = EngineConfig()
    reward: RewardConfig = RewardConfig()
    cluster: ClusterConfig = ClusterConfig()
