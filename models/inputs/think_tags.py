"""What a policy's chat template does with think tags, set against the recipe."""

from configs.schema.reward import RewardConfig
from models.inputs.encoder import InputEncoder
from rl.console.errors import UserError


def reward_for_template(reward: RewardConfig, encoder: InputEncoder) -> RewardConfig:
    """`reward`, its `thinking.prompt_opens` as the chat template has it where the recipe is silent.

    A template that opens the thoughts itself (DeepSeek-R1-Distill's) leaves answers without an open
    tag: taken for one that does not, no answer would keep the format, and the final answer would be
    looked for in thoughts that were cut off.

    Raises:
        UserError: the recipe says otherwise than the template, or the template ends the thoughts
            before the answer begins while the format is rewarded.
    """
    thinking = reward.thinking
    prompt = encoder.rendered_prompt("A question").rstrip()
    opens = prompt.endswith(thinking.open_tag)
    end = prompt[-60:]
    if thinking.prompt_opens is not None and thinking.prompt_opens != opens:
        does = "ends" if opens else "does not end"
        raise UserError(
            f"reward.thinking.prompt_opens={str(thinking.prompt_opens).lower()}, but the policy's "
            f"chat template {does} a prompt with {thinking.open_tag!r} (its last characters are "
            f"{end!r}); leave prompt_opens out, or correct reward.thinking.open_tag"
        )
    if prompt.endswith(thinking.close_tag) and "format" in reward.counting:
        raise UserError(
            f"the policy's chat template ends a prompt with {thinking.close_tag!r} (its last "
            f"characters are {end!r}), so no answer can hold thoughts; take a template that "
            "lets the policy think, or leave format out of reward.weights"
        )
    said = thinking.model_copy(update={"prompt_opens": opens})
    return reward.model_copy(update={"thinking": said})
