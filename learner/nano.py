"""A fresh model of under a million parameters, for CPUs: Qwen3's architecture over characters."""

from pathlib import Path

import torch
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import GenerationConfig, PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

VOCAB_SIZE = 128
MAX_LENGTH = 2048  # tokens, prompt and completion, unless asked for more
_TAGS = ["<think>", "</think>", "<answer>", "</answer>"]
_ALPHABET = "\n" + "".join(chr(code) for code in range(32, 127))


def nano_tokenizer(max_length: int = MAX_LENGTH) -> PreTrainedTokenizerFast:
    """One token per printable ASCII character or newline, and one per tag.

    `decode(encode(x)) == x` for text of these. Other characters become `<unk>`. The tags are not
    "special" in the tokenizer's sense: a decoder that skips special tokens must keep them.
    """
    tokens = ["<pad>", "<eos>", "<unk>", *_TAGS, *_ALPHABET]
    tokens += [f"<reserved_{i}>" for i in range(VOCAB_SIZE - len(tokens))]
    tokenizer = Tokenizer(models.WordLevel({t: i for i, t in enumerate(tokens)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), behavior="isolated")
    tokenizer.decoder = decoders.Fuse()
    tokenizer.add_special_tokens(["<pad>", "<eos>", "<unk>"])
    tokenizer.add_tokens([AddedToken(tag, normalized=False, special=False) for tag in _TAGS])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        eos_token="<eos>",
        unk_token="<unk>",
        model_max_length=max_length,
        clean_up_tokenization_spaces=False,
    )


def build_nano(
    path: str | Path,
    *,
    seed: int = 0,
    tie_embeddings: bool = False,
    max_length: int = MAX_LENGTH,
) -> None:
    """Write a Hugging Face directory of a model with random float32 weights, fixed by the seed.

    `max_length` [tokens] is the longest context that the directory allows; no weight depends on it.
    """
    tokenizer = nano_tokenizer(max_length)
    config = Qwen3Config(
        vocab_size=VOCAB_SIZE,
        hidden_size=128,
        intermediate_size=384,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=32,
        max_position_embeddings=max_length,
        tie_word_embeddings=tie_embeddings,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        dtype="float32",
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Qwen3ForCausalLM(config)
    model.generation_config = GenerationConfig(
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id
    )
    model.save_pretrained(path)
    tokenizer.save_pretrained(path)
