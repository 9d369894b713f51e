"""Attention for sequences that share their prompts: each distinct token goes through a layer once.

The rollouts of a group begin with the same prompt, and under causal attention its hidden states
are the same in all of them. Everything but attention works token by token, so the model gets one
row of distinct tokens [1, T], without padding. Attention alone needs the sequences: it gathers
queries, keys and values into [B, L], and takes back one result for each distinct token. The
gradient of a shared token is the sum over its sequences, by autograd.
"""

import logging
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from learner.layout import Layout

log = logging.getLogger("learner")

NAME = "async_r1_shared_prompts"
_UNKNOWN = ("sliding_window", "softcap", "position_bias", "s_aux")


def hidden_states(model: PreTrainedModel, input_ids: Tensor, layout: Layout) -> Tensor:
    """Last hidden states of the distinct tokens [T, H] of padded sequences [B, L]."""
    output = model.base_model(
        input_ids=input_ids.flatten()[layout.distinct][None],
        position_ids=(layout.distinct % input_ids.shape[1])[None],
        use_cache=False,
        layout=layout,
    )
    hidden: Tensor = output.last_hidden_state[0]
    return hidden


def share_prompts(model: PreTrainedModel) -> bool:
    """Have a model use this attention, if its hidden states prove to be the same with it.

    False for models whose attention is not a plain causal one, or which call it in another way;
    they are left as they were.
    """
    before = model.config._attn_implementation
    ids = torch.tensor([[5, 3, 7, 1, 2, 6], [5, 3, 7, 4, 0, 0]], device=model.device)
    ids = ids.remainder(model.config.vocab_size)
    layout = Layout.of([3, 3], [3, 1], [0, 0], device=model.device)
    was_training = model.training
    model.eval()
    with torch.no_grad():
        expected = model.base_model(input_ids=ids, use_cache=False).last_hidden_state
        try:
            model.set_attn_implementation(NAME)
            found = hidden_states(model, ids, layout)
            reason = "its hidden states are other ones"
        except (TypeError, ValueError, RuntimeError, KeyError) as error:
            found, reason = None, (str(error) or type(error).__name__).splitlines()[0]
    model.train(was_training)
    flat = expected.flatten(0, 1)[layout.distinct]
    tolerance = 1e-3 if flat.dtype == torch.float32 else 0.1
    if found is not None and torch.allclose(found, flat, rtol=tolerance, atol=tolerance):
        return True
    name = type(model).__name__
    log.warning("%s computes a prompt again for each of its rollouts: %s", name, reason)
    model.set_attn_implementation(before)
    return False


def attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float | None = None,
    dropout: float = 0.0,
    layout: Layout | None = None,
    **options: Any,
) -> tuple[Tensor, None]:
    """Hugging Face's attention interface; [1, heads, T, D] in, [1, T, heads, D] out.

    Raises:
        ValueError: an option that plain causal attention has not.
    """
    if layout is None:
        given = {"scaling": scaling, "dropout": dropout, **options}
        out, _ = sdpa_attention_forward(module, query, key, value, attention_mask, **given)
        return out, None
    if attention_mask is not None or any(options.get(name) is not None for name in _UNKNOWN):
        raise ValueError(f"attention with a mask or one of {', '.join(_UNKNOWN)}")
    grouped = query.shape[1] != key.shape[1]
    outputs = []
    for index in layout.buckets:
        q, k, v = (_gather(tensor, index) for tensor in (query, key, value))
        out = nn.functional.scaled_dot_product_attention(
            q, k, v, dropout_p=dropout, is_causal=True, scale=scaling, enable_gqa=grouped
        )
        outputs.append(out.transpose(1, 2).flatten(0, 1).flatten(1))  # [B * L, heads * D]
    flat = torch.cat(outputs).index_select(0, layout.results)
    return flat.view(1, len(flat), query.shape[1], -1), None


def _gather(states: Tensor, index: Tensor) -> Tensor:
    """[1, heads, T, D] and an index [B, L] to [B, heads, L, D]."""
    rows = states[0].transpose(0, 1).flatten(1)  # [T, heads * D]
    found = rows.index_select(0, index.flatten())  # its gradient is a row-wise sum
    return found.view(*index.shape, -1, states.shape[-1]).transpose(1, 2)


AttentionInterface.register(NAME, attention)
