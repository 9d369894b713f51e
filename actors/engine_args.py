"""vLLM engine arguments from the configuration."""

import dataclasses
from typing import Any

from async_r1.config import Config
from async_r1.errors import ConfigError
from async_r1.schema import nearest


def weight_backend(config: Config) -> str:
    """vLLM's name of the transfer engine: of `weights.backend`, or by device when it is `auto`."""
    backend: str = config.weights.backend
    if backend == "auto":
        from vllm.platforms import current_platform

        on_gpu = "ipc" if config.run.colocate else "nccl"
        backend = "gloo" if current_platform.is_cpu() else on_gpu
    return "async_r1_ipc" if backend == "ipc" else backend


def for_seeds() -> dict[str, Any]:
    """What requests with seeds of their own need.

    A prompt that takes several steps has its generator rewound, which vLLM cannot do on a CPU
    ("CPU Generator does not use offset"): there a prompt is to fit one step.
    """
    from vllm.platforms import current_platform

    return {"enable_chunked_prefill": False} if current_platform.is_cpu() else {}


def engine_arguments(config: Config, seed: int) -> dict[str, Any]:
    """Keyword arguments of vLLM's `EngineArgs`; `rules.check` has refused those that we own.

    Raises:
        ConfigError: `actors.engine` names an argument that vLLM does not have.
    """
    from vllm.engine.arg_utils import EngineArgs

    known = {field.name for field in dataclasses.fields(EngineArgs)}
    for name in config.actors.engine:
        if name not in known:
            match = nearest(name, known)
            hint = f"; did you mean actors.engine.{match}?" if match else ""
            raise ConfigError(f"unknown option actors.engine.{name}{hint}")
    arguments: dict[str, Any] = {
        "max_num_seqs": config.actors.max_concurrent,
        "disable_log_stats": True,
        "enable_prefix_caching": config.mode == "async",
        **(for_seeds() if config.mode == "sync" else {}),
        **config.actors.engine,
        "model": config.model.path,
        "dtype": config.model.dtype,
        "max_model_len": config.model.max_length,
        "seed": seed,
        "logprobs_mode": "processed_logprobs",
        "weight_transfer_config": {"backend": weight_backend(config)},
        "skip_tokenizer_init": True,
    }
    if config.model.dtype != "float32":
        # The learner projects in float32; logits of a half-precision head are another policy's.
        overrides = {"head_dtype": "float32", **arguments.get("hf_overrides", {})}
        arguments["hf_overrides"] = overrides
    if config.actors.in_process:
        if arguments.get("async_scheduling"):
            raise ConfigError("actors.engine.async_scheduling needs actors.in_process=false")
        # A step in flight across an update would be stamped with the wrong version.
        arguments["async_scheduling"] = False
    return arguments
