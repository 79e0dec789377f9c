"""What a message to a server holds: text, and images as data URLs where the text marks them."""

import base64
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

from rl.data.images import image_format, open_image
from rl.data.records import IMAGE_MARK

Content = str | list[dict[str, Any]]
"""A message's content in OpenAI's form."""

_SERVED_FORMATS = ("png", "jpeg", "webp", "gif")
"""What servers take as it is; other images are sent as PNG."""


def with_images(text: str, images: Sequence[bytes | str]) -> Content:
    """The text and its images in order; images without a mark come first.

    Marks beyond the last image stay text: a chain of thought may spell one out.

    Raises:
        BadImage: an image cannot be read.
    """
    if not images:
        return text
    pieces = text.split(IMAGE_MARK, len(images))
    unmarked = len(images) - (len(pieces) - 1)
    parts = [_image_part(image) for image in images]
    content, marked = parts[:unmarked], iter(parts[unmarked:])
    for place, piece in enumerate(pieces):
        content += [next(marked)] if place else []
        content += [{"type": "text", "text": piece}] if piece else []
    return content


def followed_by(content: Content, text: str) -> Content:
    """The content with a text behind it."""
    if isinstance(content, str):
        return content + text
    return [*content, {"type": "text", "text": text}]


def _image_part(image: bytes | str) -> dict[str, Any]:
    encoded = Path(image).read_bytes() if isinstance(image, str) else image
    kind = image_format(encoded)
    if kind not in _SERVED_FORMATS:
        file = BytesIO()
        open_image(encoded).save(file, "PNG")
        encoded, kind = file.getvalue(), "png"
    url = f"data:image/{kind};base64,{base64.b64encode(encoded).decode()}"
    return {"type": "image_url", "image_url": {"url": url}}
