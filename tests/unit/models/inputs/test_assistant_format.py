"""Which text of a chat is the model's own to say, under templates of every temper."""

from collections.abc import Sequence

import pytest
from jinja2 import Environment

from models.inputs.assistant_format import Render, assistant_format, masked_pieces
from rl.data.records import Turn

SPECIAL = {"<|im_start|>", "<|im_end|>", "<eot>", "<box>"}

PLAIN = """\
{% for m in messages %}<|im_start|>{{ m.role }}
{{ m.content }}<|im_end|>
{% endfor %}{% if opened %}<|im_start|>assistant
{% endif %}"""

# Reasoners that begin each answer in the prompt and show only what follows the chain, even last.
OPENED = """\
{% for m in messages %}{% if m.role == 'user' %}<User>{{ m.content }}{% else %}\
<Assistant>{{ m.content.split('</think>')[-1] }}<eot>{% endif %}{% endfor %}\
{% if opened %}<Assistant><think>
{% endif %}"""

# Reasoners that show the chain of the newest answer, empty if there is none, and of no other.
NEWEST = """\
{% set asked = namespace(last=0) %}{% for m in messages %}{% if m.role == 'user' %}\
{% set asked.last = loop.index0 %}{% endif %}{% endfor %}\
{% for m in messages %}<|im_start|>{{ m.role }}
{% set said = m.content.split('</think>')[-1].lstrip() %}\
{% if m.role == 'assistant' and loop.index0 > asked.last %}\
{% set chain = m.content.split('</think>')[0] if '</think>' in m.content else '' %}<think>
{{ chain.replace('<think>', '').strip() }}
</think>

{% endif %}{{ said }}<|im_end|>
{% endfor %}{% if opened %}<|im_start|>assistant
{% endif %}"""


def renderer(template: str) -> Render:
    compiled = Environment().from_string(template)

    def render(turns: Sequence[Turn], opened: bool) -> str:
        messages = [{"role": turn.role, "content": turn.text} for turn in turns]
        return compiled.render(messages=messages, opened=opened)

    return render


def learned(template: str, *turns: Turn) -> list[tuple[str, bool]]:
    render = renderer(template)
    pieces = masked_pieces(render, turns, assistant_format(render, SPECIAL))
    return [piece for piece in pieces if piece[0]]


def user(text: str) -> Turn:
    return Turn("user", text)


def assistant(text: str, learned: bool = True) -> Turn:
    return Turn("assistant", text, learned)


def test_answers_are_learned_with_their_end_and_without_the_template_s_frame() -> None:
    assert learned(PLAIN, Turn("system", "Be kind."), user("2?"), assistant("II")) == [
        (
            "<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\n2?<|im_end|>\n"
            "<|im_start|>assistant\n",
            False,
        ),
        ("II<|im_end|>", True),
        ("\n", False),
    ]


def test_each_answer_of_a_long_chat_is_learned_but_those_that_are_context() -> None:
    turns = [user("a"), assistant("A"), user("b"), assistant("B", False), user("c"), assistant("C")]
    pieces = learned(PLAIN, *turns)
    assert [text for text, learn in pieces if learn] == ["A<|im_end|>", "C<|im_end|>"]
    assert "".join(text for text, _ in pieces) == renderer(PLAIN)(turns, False)


def test_an_answer_may_hold_special_tokens_other_than_its_end() -> None:
    assert ("it is <box>[1, 2]<|im_end|>", True) in learned(
        PLAIN, user("where?"), assistant("it is <box>[1, 2]")
    )


def test_an_answer_that_spells_its_own_end_is_refused() -> None:
    with pytest.raises(ValueError, match="turn 1 cannot be learned"):
        learned(PLAIN, user("a"), assistant("A<|im_end|>more"), user("b"), assistant("B"))


@pytest.mark.parametrize("answer", ["<think>\n1+1\n</think>\n2", "<think>1+1\n</think>\n2"])
def test_where_the_prompt_opens_the_chain_the_rest_of_it_is_learned(answer: str) -> None:
    assert learned(OPENED, user("1+1?"), assistant(answer)) == [
        ("<User>1+1?<Assistant><think>\n", False),
        ("1+1\n</think>\n2<eot>", True),
    ]


def test_where_the_prompt_opens_the_chain_an_answer_without_one_is_refused() -> None:
    with pytest.raises(ValueError, match=r"opens each answer with '<think>'.* begins with '2'"):
        learned(OPENED, user("1+1?"), assistant("2"))


def test_an_earlier_answer_that_the_template_writes_anew_is_refused_and_shown() -> None:
    turns = [user("a"), assistant("<think>x</think>A"), user("b"), assistant("<think>y</think>B")]
    with pytest.raises(ValueError, match=r"turn 1 .* writes it anew") as caught:
        learned(OPENED, *turns)
    assert (
        "the prompt has '<User>a<Assistant><think>\\n' where the whole chat has "
        "'<User>a<Assistant>A<eot><User>b<Assistan'; set data.turns=last"
    ) in str(caught.value)
    # As context it is what the engine will show the model, too.
    turns[1] = assistant(turns[1].text, False)
    assert learned(OPENED, *turns) == [
        ("<User>a<Assistant>A<eot><User>b<Assistant><think>\n", False),
        ("y</think>B<eot>", True),
    ]


def test_a_template_that_shows_the_newest_chain_only_is_followed() -> None:
    newest = learned(NEWEST, user("1+1?"), assistant("<think>1+1</think>2"))
    assert newest[1] == ("<think>\n1+1\n</think>\n\n2<|im_end|>", True)
    # What the template puts before an answer without a chain, the model has to say as well.
    bare = learned(NEWEST, user("1+1?"), assistant("2"))
    assert bare[1] == ("<think>\n\n</think>\n\n2<|im_end|>", True)
    chains = [user("a"), assistant("<think>x</think>A"), user("b"), assistant("B")]
    with pytest.raises(ValueError, match=r"turn 1 .*of '<think>x</think>A' it leaves 'A<"):
        learned(NEWEST, *chains)


def test_a_template_that_never_ends_a_turn_or_drops_answers_is_refused() -> None:
    with pytest.raises(ValueError, match=r"ends an answer with ' \\n\\n', which holds no special"):
        learned("{% for m in messages %}{{ m.role }}: {{ m.content }} \n\n{% endfor %}", user("a"))
    with pytest.raises(ValueError, match="leaves out what the assistant says"):
        learned("{% for m in messages if m.role == 'user' %}{{ m.content }}{% endfor %}", user("a"))
