"""How much memory each role will need: an estimate, before anything is loaded.

For a decoder with P parameters, L layers, hidden size h, vocabulary V and key/value width k (KV
heads x head size), in a dtype of b bytes, M learner ranks and ZeRO stage z:

    learner rank   weights      b P                  / M from z = 3
                   gradients    4 P, in float32      / M from z = 2
                   Adam         8 P, and 4 P of float32 weights if b < 4;  / M from z = 1
                   reference    b P for GRPO's KL
                   staging      b P, where weights go through memory of a shared GPU (ipc)
                   and the greater of a micro-batch and a publication:
                   activations  17 b h L per token of a micro-batch (Korthikanti et al. 2022,
                                arXiv 2205.05198, eq. 1 without the attention matrix); with
                                gradient checkpointing b h (L + 17) instead
                   attention    10 b h L, with gradient checkpointing 10 b h: queries, keys,
                                values and results of sequences that share prompts, at most 2.5
                                tokens (padding counted) for each of a micro-batch
                   logits       3 x 4 V per token of logprob_chunk_tokens: logits, their
                                log-softmax, and its gradient
                   projection   4 V h for its gradient, and 4 V h for a float32 copy if b < 4
                   publication  b P at z = 3, where the whole model is gathered
    actor          weights      b P / S,  S the GPUs that share the engine
                   KV cache     2 b L k / S per token: what actors.engine gives it; on a GPU else
                                all that gpu_memory_utilization leaves, on a CPU
                                max_concurrent rollouts of model.max_length
    buffer         13 bytes per token of max_size groups, at half of model.max_length

Python and its libraries come on top of each: `RUNTIME_GIB`; on a GPU contexts, kernels' workspaces
and CUDA graphs: `GPU_RUNTIME_GIB`, which are guesses.
"""

from async_r1.config import Config
from async_r1.model_shape import ModelShape

GIB = 2**30
RUNTIME_GIB = {"buffer": 0.05, "actor": 1.0, "learner": 0.6}  # resident, with the nano model
GPU_RUNTIME_GIB = {"actor": 3.0, "learner": 2.0}
UTILIZATION = 0.9  # of a GPU that vLLM takes if not told
_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}


def learner_gib(config: Config, shape: ModelShape, *, on_gpu: bool = False) -> float:
    """Memory of one learner rank."""
    parts = learner_parts(config, shape)
    states = sum(parts[name] for name in ("weights", "gradients", "adam", "reference", "staging"))
    step = sum(parts[name] for name in ("activations", "attention", "logits", "projection"))
    runtime = GPU_RUNTIME_GIB if on_gpu else RUNTIME_GIB
    return runtime["learner"] + states + max(step, parts["publication"])


def learner_parts(config: Config, shape: ModelShape) -> dict[str, float]:
    """GiB of one learner rank by what they are for."""
    learner, width = config.learner, _BYTES[config.model.dtype]
    low_precision = width < 4
    parameters, ranks = shape.num_parameters, learner.ranks
    stage = max(learner.zero_stage, 1) if low_precision else learner.zero_stage

    def shard(first_stage: int) -> int:
        return ranks if stage >= first_stage else 1

    alive = 1 if learner.gradient_checkpointing else shape.num_layers
    per_layer = 1 if learner.gradient_checkpointing else 17
    hidden = shape.hidden_size * per_layer * shape.num_layers
    hidden += 17 * shape.hidden_size if learner.gradient_checkpointing else 0
    rows = min(learner.logprob_chunk_tokens, learner.micro_batch_tokens)
    projection = 4 * shape.vocab_size * shape.hidden_size * (2 if low_precision else 1)
    has_staging = config.run.colocate and config.weights.backend != "gloo"
    has_reference = config.objective.name == "grpo" and config.objective.kl > 0
    return {
        "weights": width * parameters / shard(3) / GIB,
        "gradients": 4 * parameters / shard(2) / GIB,
        "adam": (12 if low_precision else 8) * parameters / shard(1) / GIB,
        "reference": (width * parameters if has_reference else 0) / GIB,
        "staging": (width * parameters if has_staging else 0) / GIB,
        "activations": width * hidden * learner.micro_batch_tokens / GIB,
        "attention": width * 10 * shape.hidden_size * alive * learner.micro_batch_tokens / GIB,
        "logits": 3 * 4 * shape.vocab_size * rows / GIB,
        "projection": projection / GIB,
        "publication": (width * parameters if stage >= 3 else 0) / GIB,
    }


def weights_gib(config: Config, shape: ModelShape) -> float:
    """One copy of the model."""
    return _BYTES[config.model.dtype] * shape.num_parameters / GIB


def kv_gib(config: Config, shape: ModelShape, tokens: int, num_shards: int = 1) -> float:
    """KV cache of so many tokens, on each of the GPUs that share the engine."""
    fp8 = str(config.actors.engine.get("kv_cache_dtype", "")).startswith("fp8")
    width = 1 if fp8 else _BYTES[config.model.dtype]
    return 2 * width * shape.num_layers * shape.kv_size * tokens / num_shards / GIB


def actor_fixed_gib(config: Config, shape: ModelShape, num_shards: int, *, on_gpu: bool) -> float:
    """What an actor needs beside its KV cache, on each of its GPUs."""
    weights = weights_gib(config, shape) / num_shards
    return (GPU_RUNTIME_GIB if on_gpu else RUNTIME_GIB)["actor"] + weights


def actor_gib(
    config: Config, shape: ModelShape, num_shards: int = 1, gpu_gib: float | None = None
) -> float:
    """Memory of one actor; of each of its GPUs if `num_shards` share the engine.

    Args:
        gpu_gib: memory of a GPU, of which vLLM takes its share whatever it needs; None: on a CPU.
    """
    fixed = actor_fixed_gib(config, shape, num_shards, on_gpu=gpu_gib is not None)
    stated = config.actors.engine.get("kv_cache_memory_bytes")
    if isinstance(stated, int | float):
        return fixed + stated / GIB
    if gpu_gib is not None:
        return gpu_gib * utilization(config)
    tokens = config.actors.max_concurrent * config.model.max_length
    return fixed + kv_gib(config, shape, tokens, num_shards)


def utilization(config: Config) -> float:
    """Share of a GPU that vLLM takes."""
    return float(config.actors.engine.get("gpu_memory_utilization", UTILIZATION))


def buffer_gib(config: Config) -> float:
    """Memory of the buffer: a full table of rollouts of half the greatest length."""
    tokens = config.buffer.max_size * config.buffer.group_size * config.model.max_length / 2
    return RUNTIME_GIB["buffer"] + 9 * tokens / GIB
