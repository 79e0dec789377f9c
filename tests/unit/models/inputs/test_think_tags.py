"""The chat template says if the prompt opens the thoughts; a recipe that differs is refused."""

import shutil
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from configs.schema.data import PromptConfig
from configs.schema.reward import RewardConfig
from models.inputs.encoder import InputEncoder
from models.inputs.think_tags import reward_for_template
from rl.console.errors import UserError
from tests.families import build_qwen3_text

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n"
)


@pytest.fixture(scope="module")
def text_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A language model's folder."""
    folder = tmp_path_factory.mktemp("qwen3")
    build_qwen3_text(folder)
    return folder


def encoder_that_ends_prompts_with(end: str, text_model: Path, folder: Path) -> InputEncoder:
    """A policy whose template writes `end` before the answer begins."""
    shutil.copytree(text_model, folder, dirs_exist_ok=True)
    (folder / "chat_template.jinja").write_text(CHATML + end + "{% endif %}", "utf-8")
    return InputEncoder(folder, PromptConfig(), trust_remote_code=False)


def reward_of(**thinking: object) -> RewardConfig:
    return RewardConfig.model_validate({"thinking": thinking})


@pytest.mark.parametrize(
    ("end", "tags", "opens"),
    [
        ("<think>\n", {}, True),  # DeepSeek-R1-Distill's
        ("", {}, False),
        ("[R]", {"open_tag": "[R]", "close_tag": "[/R]"}, True),
        ("<think>\n", {"open_tag": "[R]", "close_tag": "[/R]"}, False),
    ],
)
def test_where_the_recipe_is_silent_the_template_says_whether_the_prompt_opens(
    end: str, tags: dict[str, str], opens: bool, text_model: Path, tmp_path: Path
) -> None:
    encoder = encoder_that_ends_prompts_with(end, text_model, tmp_path)
    assert reward_for_template(reward_of(**tags), encoder).thinking.prompt_opens is opens


@pytest.mark.parametrize(("end", "said"), [("<think>\n", False), ("", True)])
def test_a_recipe_that_contradicts_the_template_is_refused(
    end: str, said: bool, text_model: Path, tmp_path: Path
) -> None:
    encoder = encoder_that_ends_prompts_with(end, text_model, tmp_path)
    with pytest.raises(UserError, match=r"prompt_opens=(true|false), but the policy's chat templ"):
        reward_for_template(reward_of(prompt_opens=said), encoder)


def test_a_template_that_ends_the_thoughts_itself_is_refused_where_the_format_counts(
    text_model: Path, tmp_path: Path
) -> None:
    encoder = encoder_that_ends_prompts_with("<think>\n\n</think>\n\n", text_model, tmp_path)
    with pytest.raises(UserError, match="no answer can hold thoughts"):
        reward_for_template(RewardConfig(), encoder)
    without = RewardConfig.model_validate({"weights": {"math": 1.0}})
    assert reward_for_template(without, encoder).thinking.prompt_opens is False


def test_think_tags_that_are_special_tokens_stay_in_the_text_and_others_go(
    text_model: Path, tmp_path: Path
) -> None:
    tokenizer = AutoTokenizer.from_pretrained(text_model)
    tokenizer.add_special_tokens({"extra_special_tokens": ["[THINK]", "[/THINK]"]})
    shutil.copytree(text_model, tmp_path, dirs_exist_ok=True)
    tokenizer.save_pretrained(tmp_path)
    encoder = InputEncoder(tmp_path, PromptConfig(), trust_remote_code=False)
    ids = encoder.tokenise("[THINK]one and two[/THINK]3<|im_end|>")
    assert encoder.decode(ids) == "one and two3"
    assert encoder.decode(ids, keep=("[THINK]", "[/THINK]")) == "[THINK]one and two[/THINK]3"
