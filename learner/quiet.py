"""Settings that libraries read when they are imported."""

import os
import warnings

import torch


def quiet_libraries() -> None:
    """Call before DeepSpeed and transformers are imported."""
    # Without a GPU DeepSpeed must be told to use the CPU, or it looks for one and warns.
    os.environ.setdefault("DS_ACCELERATOR", "cuda" if torch.cuda.is_available() else "cpu")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    warnings.filterwarnings("ignore", module="deepspeed")
