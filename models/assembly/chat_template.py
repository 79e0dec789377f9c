"""Chat templates of language models, made able to place images.

A language model's template expects a message's content as one text. Rather than rewriting it, a
few lines are put in front that turn a list of parts into such a text, an image becoming its token;
what follows is the model's own template to the letter, think tags and all.
"""

from models.assembly.image_tokens import IMAGE_TOKEN

# Names begin with r1v_ so that none of the template's own is taken. Keys that stand beside the
# content (tool calls, a separate chain of thought) stay.
_FRONT = """\
{%- set r1v_seen = namespace(messages=[], text='') -%}
{%- for r1v_message in messages -%}
{%- if r1v_message.content is string or r1v_message.content is not iterable -%}
{%- set r1v_seen.messages = r1v_seen.messages + [r1v_message] -%}
{%- else -%}
{%- set r1v_seen.text = '' -%}
{%- for r1v_part in r1v_message.content -%}
{%- if r1v_part.type in ('image', 'image_url') -%}
{%- set r1v_seen.text = r1v_seen.text + '@IMAGE@' -%}
{%- elif r1v_part.type == 'text' -%}
{%- set r1v_seen.text = r1v_seen.text + r1v_part.text -%}
{%- endif -%}
{%- endfor -%}
{%- set r1v_seen.messages = r1v_seen.messages + [dict(r1v_message, content=r1v_seen.text)] -%}
{%- endif -%}
{%- endfor -%}
{%- set messages = r1v_seen.messages -%}
""".replace("@IMAGE@", IMAGE_TOKEN)


def placing_images(template: str) -> str:
    """`template`, which knows texts only, made to take lists of text and image parts."""
    return template if template.startswith(_FRONT) else _FRONT + template


def without_images(template: str) -> str:
    """The template that `placing_images` was given."""
    return template.removeprefix(_FRONT)
