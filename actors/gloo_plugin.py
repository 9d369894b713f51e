"""vLLM general plugin: makes the `gloo` weight-transfer backend known in every vLLM process."""


def register() -> None:
    """Register the engine; safe to call again in the same process."""
    from vllm.distributed.weight_transfer.factory import WeightTransferEngineFactory

    if "gloo" not in WeightTransferEngineFactory._registry:
        WeightTransferEngineFactory.register_engine(
            "gloo", "actors.gloo_engine", "GlooWeightTransferEngine"
        )
