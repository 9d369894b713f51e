"""Prompts under chat templates: against transformers' own rendering and against text by hand."""

import re
from typing import Any

import pytest

from async_r1.config_task import TaskConfig
from async_r1.errors import ConfigError
from async_r1.templates import PromptForm, extract_answer, implied_prefix, is_well_formed
from learner.examples import tokenise
from learner.nano import nano_tokenizer

QWEN = """\
{%- if messages[0].role == 'system' %}{{- '<|im_start|>system\\n' + messages[0].content + '<|im_end|>\\n' }}{%- endif %}
{%- for message in messages %}{%- if message.role != 'system' %}{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}{%- endif %}{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- if enable_thinking is defined and enable_thinking is false %}{{- '<think>\\n\\n</think>\\n\\n' }}{%- endif %}{%- endif %}"""  # noqa: E501
DISTILL = (
    "{{bos_token}}{% for message in messages %}{{'<|User|>' + message['content']}}{% endfor %}"
    "{% if add_generation_prompt %}{{'<|Assistant|><think>\\n'}}{% endif %}"
)
NO_SYSTEM = (
    "{% if messages[0].role == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
)


def tokenizer(template: str | None) -> Any:
    made = nano_tokenizer()
    marks = ["<|im_start|>", "<|im_end|>", "<|User|>", "<|Assistant|>", "<bos>"]
    made.add_special_tokens({"additional_special_tokens": marks, "bos_token": "<bos>"})
    made.chat_template = template
    return made


def form(template: str | None, **task: Any) -> PromptForm:
    return PromptForm(TaskConfig(template="chat", **task), tokenizer(template))


@pytest.mark.parametrize(
    ("template", "task", "expected", "implied"),
    [
        (QWEN, {}, "<|im_start|>user\n1+1=?<|im_end|>\n<|im_start|>assistant\n", ""),
        (
            QWEN,
            {"system_prompt": "Be brief."},
            "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n1+1=?<|im_end|>\n"
            "<|im_start|>assistant\n",
            "",
        ),
        (
            QWEN,
            {"template_options": {"enable_thinking": False}},
            "<|im_start|>user\n1+1=?<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n",
            "<think>\n\n</think>\n\n",
        ),
        (DISTILL, {}, "<bos><|User|>1+1=?<|Assistant|><think>\n", "<think>\n"),
    ],
)
def test_the_tokenizers_own_template(
    template: str, task: dict[str, Any], expected: str, implied: str
) -> None:
    made = form(template, **task)
    assert made.text("1+1=?") == expected
    assert made.implied_prefix == implied == implied_prefix(expected)
    messages = [{"role": "user", "content": "1+1=?"}]
    if "system_prompt" in task:
        messages.insert(0, {"role": "system", "content": task["system_prompt"]})
    direct = made.tokenizer.apply_chat_template(
        messages,
        tokenize=True,
        add_generation_prompt=True,
        return_dict=False,
        **task.get("template_options", {}),
    )
    assert made.token_ids("1+1=?") == direct


@pytest.mark.parametrize(
    ("written", "right"),
    [
        ("2\n</think><answer>2</answer>", True),
        ("<think>2\n</think><answer>2</answer>", False),  # the block is open already
        ("<answer>2</answer>", False),
    ],
)
def test_a_completion_is_judged_with_the_opening_that_the_template_wrote(
    written: str, right: bool
) -> None:
    whole = form(DISTILL).forced() + written
    assert is_well_formed(whole) is right
    assert (extract_answer(whole) == "2") is (right or written.startswith("<think>"))


def test_a_completion_without_thinking_is_well_formed_where_the_template_closed_the_block() -> None:
    made = form(QWEN, template_options={"enable_thinking": False})
    assert is_well_formed(made.forced() + "<answer>2</answer>")
    assert extract_answer(made.forced() + "<answer>2</answer>") == "2"


@pytest.mark.parametrize(
    ("template", "options", "prefix", "left"),
    [
        (QWEN, {}, "<think>\n", "<think>\n"),
        (DISTILL, {}, "<think>\n", ""),
        (DISTILL, {}, "<think></think><answer>", "</think><answer>"),
        (DISTILL, {}, "", ""),
        (DISTILL, {}, " 7", " 7"),
        (QWEN, {"enable_thinking": False}, "<think></think><answer>", "<answer>"),
        (QWEN, {"enable_thinking": False}, "", ""),
    ],
)
def test_a_forced_beginning_goes_on_where_the_template_ends(
    template: str, options: dict[str, Any], prefix: str, left: str
) -> None:
    made = form(template, template_options=options)
    assert made.after_implied(prefix) == left
    assert made.forced(prefix) == made.implied_prefix + left
    end = made.tokenizer.encode(left, add_special_tokens=False)
    assert made.token_ids("1+1=?", prefix) == made.token_ids("1+1=?") + end


def test_reasoning_under_a_template_that_closed_the_block_is_refused() -> None:
    made = form(QWEN, template_options={"enable_thinking": False})
    with pytest.raises(ConfigError, match="leaves no room to reason"):
        made.after_implied("<think>so</think><answer>2</answer>")


def test_demonstrations_go_on_after_the_opening() -> None:
    made = form(DISTILL)
    pair = ("1+1=?", "<think>\n2</think><answer>2</answer>")
    found = tokenise(made, [pair], max_length=200)
    assert made.tokenizer.decode(found.prompt_ids) == made.text("1+1=?")
    assert made.tokenizer.decode(found.token_ids) == "2</think><answer>2</answer><eos>"


def test_a_token_that_stands_before_every_text_stands_before_every_prompt() -> None:
    made = tokenizer(None)
    plain = PromptForm(TaskConfig(template="plain"), made).token_ids("1+1=?", "7")
    from tokenizers.processors import TemplateProcessing

    made.backend_tokenizer.post_processor = TemplateProcessing(
        single="<bos> $A <eos>", special_tokens=[("<bos>", made.bos_token_id), ("<eos>", 1)]
    )
    led = PromptForm(TaskConfig(template="plain"), made).token_ids("1+1=?", "7")
    assert made.decode(plain) == "1+1=?\n7"
    assert led == [made.bos_token_id, *plain]


@pytest.mark.parametrize(
    ("template", "task", "error"),
    [
        (None, {}, "task.template=chat needs a tokenizer with a chat template"),
        (
            QWEN,
            {"template_options": {"enable_thinkin": True}},
            "knows no task.template_options.enable_thinkin; did you mean enable_thinking?",
        ),
        (
            QWEN,
            {"template_options": {"zzz": True}},
            "knows no task.template_options.zzz; it reads enable_thinking",
        ),
        (QWEN, {"template_options": {"tokenize": True}}, "template_options.tokenize is not yours"),
        (NO_SYSTEM, {"system_prompt": "Be brief."}, "chat template refuses: no system role"),
        ("{% if %}", {}, "chat template is not valid"),
        ("{{ messages | nonsense }}", {}, "chat template is not valid: No filter named"),
    ],
)
def test_what_a_tokenizer_cannot_do_is_named(
    template: str | None, task: dict[str, Any], error: str
) -> None:
    with pytest.raises(ConfigError, match=re.escape(error)) as caught:
        form(template, **task)
    assert "\n" not in str(caught.value)
