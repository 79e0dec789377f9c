"""The chain of thought in an answer's text."""

from configs.schema.reward import ThinkingConfig


def has_thoughts(text: str, config: ThinkingConfig) -> bool:
    """True when there is something between the think tags."""
    thoughts, closed, _ = text.partition(config.close_tag)
    opened = config.prompt_opens
    if not opened:
        _, tag, thoughts = thoughts.partition(config.open_tag)
        opened = bool(tag)
    # A tag that is opened once more says nothing.
    return opened and bool(closed) and bool(thoughts.replace(config.open_tag, "").strip())
