"""The tokens that stand for an image in the text."""

IMAGE_TOKEN = "<IMG_CONTEXT>"


# What transformers' InternVL processor asks a tokenizer for.
SPECIAL_TOKENS = {
    "start_image_token": "<img>",
    "end_image_token": "</img>",
    "context_image_token": IMAGE_TOKEN,
    "video_token": "<video>",
}
