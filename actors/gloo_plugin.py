"""vLLM general plugin: makes our weight-transfer engines known in every vLLM process."""

# vLLM's name of the engine: where it is. Its own `ipc` takes pickled handles, ours does not.
ENGINES = {
    "gloo": ("actors.gloo_engine", "GlooWeightTransferEngine"),
    "async_r1_ipc": ("actors.ipc_engine", "IpcWeightTransferEngine"),
}


def register() -> None:
    """Register the engines; safe to call again in the same process."""
    from vllm.distributed.weight_transfer.factory import WeightTransferEngineFactory

    for name, (module, engine) in ENGINES.items():
        if name not in WeightTransferEngineFactory._registry:
            WeightTransferEngineFactory.register_engine(name, module, engine)
