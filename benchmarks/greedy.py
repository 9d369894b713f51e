"""Held-out accuracy of checkpoints: greedy, by Hugging Face generation, whoever trained them."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging

from async_r1.templates import extract_answer


@torch.no_grad()
def greedy_accuracy(
    model: Any, tokenizer: Any, held_out: Sequence[dict[str, str]], max_new_tokens: int
) -> float:
    """Share of the held-out prompts (`prompt`, `answer`) answered right."""
    inputs = tokenizer(
        [row["prompt"] for row in held_out],
        return_tensors="pt",
        padding=True,
        padding_side="left",
        add_special_tokens=False,
        return_token_type_ids=False,
    )
    training = model.training
    model.eval()
    tokens = model.generate(**inputs, max_new_tokens=max_new_tokens, do_sample=False)
    model.train(training)
    texts = tokenizer.batch_decode(
        tokens[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True
    )
    right = [
        extract_answer(text) == row["answer"] for text, row in zip(texts, held_out, strict=True)
    ]
    return sum(right) / len(right)


def accuracies(
    paths: Iterable[str | Path], held_out: Sequence[dict[str, str]], max_new_tokens: int
) -> Iterator[float]:
    """Of each checkpoint in turn; the tokenizer is the first one's."""
    logging.disable_progress_bar()
    tokenizer = None
    for path in paths:
        tokenizer = tokenizer or AutoTokenizer.from_pretrained(path)
        model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)
        yield greedy_accuracy(model, tokenizer, held_out, max_new_tokens)


def prompts(config: Any, split: str) -> list[dict[str, str]]:
    """Rendered prompts of the run's task, with their answers."""
    from async_r1.tasks import load_task
    from async_r1.templates import render

    return [
        {"prompt": render(config.task.template, prompt.text), "answer": prompt.answer}
        for prompt in load_task(config.task).prompts(split)
    ]
