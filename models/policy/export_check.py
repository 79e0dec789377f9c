"""What an export of a policy will need, tried before a run starts."""

import logging
from pathlib import Path
from tempfile import TemporaryDirectory

from transformers import AutoConfig, GenerationConfig

from models.inputs.encoder import InputEncoder
from rl.console.errors import UserError

logger = logging.getLogger(__name__)


def mend_generation_config(config: GenerationConfig) -> bool:
    """Switch sampling on in a config that names sampling values and leaves it off; True if so.

    transformers reads such a config (LLaVA-1.5's is one) and refuses to save it.

    Raises:
        ValueError: it cannot be saved for another reason.
    """
    try:
        config.validate(strict=True)
    except ValueError:
        if config.do_sample:
            raise
        config.do_sample = True
        config.validate(strict=True)
        return True
    return False


def check_export(folder: str | Path, encoder: InputEncoder, trust_remote_code: bool) -> None:
    """Write all of an export but its weights to a folder that goes again.

    Args:
        folder: the policy's checkpoint, local or by hub name.
        encoder: its processor.

    Raises:
        UserError: what was read there cannot be saved, so that no checkpoint could be written.
    """
    with TemporaryDirectory() as aside:
        try:
            config = AutoConfig.from_pretrained(folder, trust_remote_code=trust_remote_code)
            config.save_pretrained(aside)
            (encoder.processor or encoder.tokenizer).save_pretrained(aside)
            generation = _generation_config(folder)
            if generation is not None and mend_generation_config(generation):
                logger.warning(
                    "generation_config.json of %s names sampling values and has do_sample=false, "
                    "which transformers does not save; checkpoints will have do_sample=true",
                    folder,
                )
        except (ValueError, TypeError, AttributeError) as error:
            raise UserError(
                f"the policy in {folder} can be read but not saved, so that no checkpoint of it "
                f"could be written: {error}; mend the files in its folder"
            ) from None


def _generation_config(folder: str | Path) -> GenerationConfig | None:
    try:
        return GenerationConfig.from_pretrained(folder)
    except OSError:  # many have none
        return None
