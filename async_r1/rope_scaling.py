"""`model.rope_scaling`: more positions than a model was made for, in actors and learner alike.

The values go into a config.json, because that is what both sides and every checkpoint read. So a
run with it starts from RUN/model: links to the model's files, and a config.json of its own.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from async_r1.config import Config
from async_r1.errors import ConfigError
from async_r1.run_dir import RunDir, read_json, write_json

# Kinds whose `factor` multiplies what config.json says; for YaRN it has the product already.
_MULTIPLIES = ("linear", "dynamic")


def scaled(values: Mapping[str, Any], scaling: Mapping[str, Any]) -> dict[str, Any]:
    """Values of a config.json with `scaling` merged into its rotary parameters."""
    result = dict(values)
    if not scaling:
        return result
    parameters = values.get("rope_parameters")
    if isinstance(parameters, Mapping):  # transformers from version 5 on
        result["rope_parameters"] = {**parameters, **scaling}
    else:
        result["rope_scaling"] = {**(values.get("rope_scaling") or {}), **scaling}
    if scaling["rope_type"] not in _MULTIPLIES:
        base = scaling.get("original_max_position_embeddings", values["max_position_embeddings"])
        result["max_position_embeddings"] = int(base * scaling["factor"])
    return result


def max_positions(values: Mapping[str, Any]) -> int:
    """Positions that a config.json gives a model; 0: it does not say."""
    plain = int(values.get("max_position_embeddings") or 0)
    scaling = values.get("rope_parameters") or values.get("rope_scaling") or {}
    multiplies = scaling.get("rope_type", scaling.get("type")) in _MULTIPLIES
    return int(plain * float(scaling.get("factor", 1))) if multiplies else plain


def apply_rope_scaling(config: Config, run_dir: RunDir) -> Config:
    """Make RUN/model, if the model's rotary embeddings are to be scaled; what starts from it.

    Raises:
        ConfigError: the model is a Hugging Face name, and cannot be had.
    """
    if not config.model.rope_scaling:
        return config
    source = _local(config.model.path)
    target = run_dir.root.resolve() / "model"
    target.mkdir()
    for file in source.iterdir():
        if file.is_file() and file.name != "config.json":
            (target / file.name).symlink_to(file.resolve())
    values = read_json(source / "config.json")
    write_json(target / "config.json", scaled(values, config.model.rope_scaling))
    return replace(config, model=replace(config.model, path=str(target)))


def _local(path: str) -> Path:
    if Path(path).is_dir():
        return Path(path)
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(path))
    except Exception as error:  # network, name, permission: each has a type of its own
        raise ConfigError(
            f"model.rope_scaling needs the files of model.path {path!r}, which do not come: "
            f"{str(error).splitlines()[0]}"
        ) from error
