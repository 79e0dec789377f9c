"""The tokens that stand for images in the text."""

IMAGE_TOKEN = "<IMG_CONTEXT>"
"""Stands in the text once for each image; the processor repeats it for each of its features."""

SPECIAL_TOKENS = {
    "start_image_token": "<img>",
    "end_image_token": "</img>",
    "context_image_token": IMAGE_TOKEN,
    "video_token": "<video>",
}
"""Tokens by the names under which transformers' InternVL processor asks a tokenizer for them."""
