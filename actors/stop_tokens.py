"""Which tokens end a completion."""

from pathlib import Path

from async_r1.errors import ConfigError


def stop_token_ids(model_path: str) -> list[int]:
    """The end-of-sequence tokens of a model's generation config, or else of its config.

    Raises:
        ConfigError: neither names one, so that no rollout could end by itself.
    """
    from transformers import AutoConfig, GenerationConfig

    stops: int | list[int] | None = None
    if not Path(model_path).is_dir() or (Path(model_path) / "generation_config.json").exists():
        stops = GenerationConfig.from_pretrained(model_path).eos_token_id
    if stops is None:
        stops = AutoConfig.from_pretrained(model_path).eos_token_id
    if stops is None:
        raise ConfigError(f"model.path {model_path} names no end-of-sequence token")
    return [stops] if isinstance(stops, int) else list(stops)
