"""The policy as the learner sees it: token ids in, log-probs of completion tokens out."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, PreTrainedModel

from async_r1.config import LearnerConfig, ModelConfig
from async_r1.errors import ConfigError
from learner.batching import MicroBatch
from learner.layout import Layout
from learner.logprob_head import LogprobHead
from learner.shared_prompts import hidden_states, share_prompts

_NAMED = 3  # weights, of those that a checkpoint lacks

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


class Policy(nn.Module):
    """A Hugging Face causal language model whose output projection is a `LogprobHead`."""

    def __init__(self, model: PreTrainedModel, *, temperature: float, chunk: int) -> None:
        """Changes `model`: its own `forward` no longer works.

        Args:
            temperature: of the sampling that the log-probs must describe.
            chunk: rows of logits alive at once.

        Raises:
            ConfigError: the model makes its logits otherwise than by that projection alone.
        """
        super().__init__()
        head = LogprobHead(_projection(model), chunk)
        _check_head(model, head)
        model.set_output_embeddings(head)
        self.model = model
        self.temperature = temperature
        self.shares_prompts = share_prompts(model)

    def forward(
        self, input_ids: Tensor, sources: Tensor, targets: Tensor, layout: Layout
    ) -> tuple[Tensor, Tensor]:
        """Log-probs and entropies [N], see `MicroBatch` for the arguments.

        No attention mask: padding stands on the right, where causal attention never looks.
        """
        if self.shares_prompts:
            hidden = hidden_states(self.model, input_ids, layout)
            sources = layout.token_of[sources]
        else:
            hidden = self.model.base_model(input_ids=input_ids, use_cache=False).last_hidden_state
            hidden = hidden.flatten(0, 1)
        # hidden[sources] would add up the gradients of a shared token in any order of threads.
        rows = hidden.index_select(0, sources)  # [N, H]
        return self.model.get_output_embeddings()(rows, targets, self.temperature)

    def hf_names(self) -> dict[str, nn.Parameter]:
        """Parameters by their names in a Hugging Face checkpoint; a tied one appears once."""
        return dict(self.model.named_parameters())


def load_policy(model: ModelConfig, learner: LearnerConfig, *, temperature: float) -> Policy:
    """The policy of a checkpoint directory or HF name, on the CPU.

    Raises:
        ConfigError: no such model, a checkpoint that is not of its config.json's architecture, a
            dtype that cannot train, or a model without a plain head.
    """
    if model.dtype not in DTYPES:
        raise ConfigError(
            f"model.dtype must be one of {', '.join(DTYPES)} for training, got {model.dtype!r}: "
            f"float16 needs loss scaling, which would hide infinite gradients"
        )
    try:
        network, found = AutoModelForCausalLM.from_pretrained(
            model.path,
            dtype=DTYPES[model.dtype],
            attn_implementation="sdpa",
            ignore_mismatched_sizes=True,  # else refused, too, but without names
            output_loading_info=True,
        )
    except (OSError, ValueError) as error:
        raise ConfigError(f"model.path {model.path!r} does not load: {error}") from error
    _check_complete(model.path, found)
    if learner.gradient_checkpointing:
        network.gradient_checkpointing_enable({"use_reentrant": learner.zero_stage == 3})
        network.enable_input_require_grads()
    network.train()
    return Policy(network, temperature=temperature, chunk=learner.logprob_chunk_tokens)


def token_logprobs(policy: nn.Module, batch: MicroBatch) -> tuple[Tensor, Tensor]:
    """Log-probs (with gradient) and entropies of the completion tokens of a micro-batch [N]."""
    return policy(batch.input_ids, batch.sources, batch.targets, batch.layout)


def source_dir(path: str) -> Path:
    """Local directory of a model's config and tokenizer files; an HF name is looked up."""
    if Path(path).is_dir():
        return Path(path)
    from huggingface_hub import snapshot_download

    return Path(snapshot_download(path, allow_patterns=["*.json", "*.txt", "*.model", "*.jinja"]))


def _check_complete(path: str, found: Mapping[str, Any]) -> None:
    """Weights that a checkpoint lacks were drawn at random, and would train without a word."""
    wrong = [f"{name} is missing" for name in sorted(found["missing_keys"])]
    wrong += [
        f"{name} is {list(there)} instead of {list(here)}"
        for name, there, here in sorted(found["mismatched_keys"])
    ]
    if wrong:
        more = f" and {len(wrong) - _NAMED} more" if len(wrong) > _NAMED else ""
        unused = sorted(found["unexpected_keys"])
        hint = f"; it has {unused[0]}, which no part of the model takes" if unused else ""
        raise ConfigError(
            f"model.path {path!r} holds a checkpoint of another architecture than its config.json "
            f"says: {', '.join(wrong[:_NAMED])}{more}{hint}"
        )


def _projection(model: PreTrainedModel) -> nn.Linear:
    projection = model.get_output_embeddings()
    if not isinstance(projection, nn.Linear):
        raise ConfigError(
            f"model {type(model).__name__} must end in a linear projection, got {projection!r}"
        )
    return projection


@torch.no_grad()
def _check_head(model: PreTrainedModel, head: LogprobHead) -> None:
    """Catches what a config cannot tell in general: soft-capped, scaled or shifted logits."""
    device = head.weight.device
    size = head.weight.shape[0]
    input_ids = torch.arange(1, 9, device=device).remainder(size)[None]
    targets = input_ids[0].roll(-1)
    was_training = model.training
    model.eval()
    logits = model(input_ids=input_ids, use_cache=False).logits[0].float()
    hidden = model.base_model(input_ids=input_ids, use_cache=False).last_hidden_state[0]
    model.train(was_training)
    expected = logits.log_softmax(1).gather(1, targets[:, None]).squeeze(1)
    actual, _ = head(hidden, targets, 1.0)
    tolerance = 1e-3 if head.weight.dtype == torch.float32 else 0.1
    if not torch.allclose(actual, expected, rtol=tolerance, atol=tolerance):
        raise ConfigError(
            f"model {type(model).__name__} changes its logits after the output projection "
            f"(soft cap or scale); such models cannot be trained"
        )
