"""Providers of start policies, each by the section that a recipe's `start` holds."""

from configs.schema.tiny import PartsConfig, TinyPathConfig

StartConfig = TinyPathConfig
"""What `start` may hold; a further provider joins by `|`, and in the command that calls it."""
StartPartsConfig = PartsConfig
"""What `start` of a pipeline may hold: a maker of the parts."""
