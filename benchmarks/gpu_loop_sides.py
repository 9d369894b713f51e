"""What `gpu_loop.py` holds its figures against: SIDE RUN_DIR, one JSON object as the last line."""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from async_r1.config import Config
from async_r1.role import Resolved
from async_r1.run_dir import RunDir, read_json
from async_r1.schema import build
from async_r1.segment_messages import read_segment

REPEATS = 5
QUICK_BYTES, COPY_BYTES = 16 << 20, 1 << 30
QUICK_SIDE, PRODUCT_SIDE = 512, 8192


def main() -> int:
    side, directory = sys.argv[1], RunDir(sys.argv[2])
    config = build(Resolved, read_json(directory.resolved)).config
    result = device(config) if side == "device" else generate(config, directory)
    print(json.dumps(result))
    return 0


def device(config: Config) -> dict[str, Any]:
    """A copy inside the device's memory [bytes/s], and a square matrix product [FLOP/s]."""
    import torch

    cuda = config.run.device != "cpu" and torch.cuda.is_available()
    where = torch.device("cuda" if cuda else "cpu")
    num_bytes, side = (COPY_BYTES, PRODUCT_SIDE) if cuda else (QUICK_BYTES, QUICK_SIDE)
    dtype = getattr(torch, config.model.dtype)

    def wait() -> None:
        if cuda:
            torch.cuda.synchronize()

    source = torch.ones(num_bytes, dtype=torch.uint8, device=where)
    target = torch.empty_like(source)
    copied_s = fastest(lambda: target.copy_(source), wait)
    left = torch.ones(side, side, dtype=dtype, device=where)
    product_s = fastest(lambda: left @ left, wait)
    return {
        "name": torch.cuda.get_device_name() if cuda else "cpu",
        "copy_bytes_per_s": num_bytes / copied_s,
        "product_flops": 2 * side**3 / product_s,
    }


def fastest(action: Callable[[], Any], wait: Callable[[], None]) -> float:
    """Seconds of the fastest of some turns, each of ten calls, after one that does not count."""
    action()
    turns = []
    for _ in range(REPEATS):
        wait()
        started = time.perf_counter()
        for _ in range(10):
            action()
        wait()
        turns.append((time.perf_counter() - started) / 10)
    return min(turns)


def generate(config: Config, directory: RunDir) -> dict[str, Any]:
    """`LLM.generate` on prompts of the run, with the actor's sampling and engine arguments."""
    from vllm import LLM, SamplingParams
    from vllm.inputs.engine import tokens_input

    # vLLM prints to standard output as it likes; the last line is ours.
    prompts = sampled_prompts(directory, 2 * config.actors.max_concurrent)
    overrides = {} if config.model.dtype == "float32" else {"head_dtype": "float32"}
    llm = LLM(
        model=config.model.path,
        dtype=config.model.dtype,
        max_model_len=config.model.max_length,
        max_num_seqs=config.actors.max_concurrent,
        logprobs_mode="processed_logprobs",
        skip_tokenizer_init=True,
        disable_log_stats=True,
        seed=config.seed,
        hf_overrides=overrides,
        **config.actors.engine,
    )
    params = SamplingParams(
        temperature=config.actors.temperature,
        max_tokens=config.task.max_new_tokens,
        logprobs=0,
        detokenize=False,
    )
    turns = []
    for _ in range(3):  # the first warms up
        started = time.perf_counter()
        outputs = llm.generate([tokens_input(ids) for ids in prompts], params, use_tqdm=False)
        tokens = sum(len(output.outputs[0].token_ids) for output in outputs)
        turns.append(tokens / (time.perf_counter() - started))
    return {"tokens_per_s": max(turns[1:]), "num_prompts": len(prompts)}


def sampled_prompts(directory: RunDir, count: int) -> list[list[int]]:
    """Prompts of the first rollouts that the run sampled, over again if they are fewer."""
    from buffer.journal import read_journal

    found: list[list[int]] = []
    for message in read_journal(directory.journal):
        if message.kind == "segment" and len(found) < count:
            prompt = read_segment(message).prompt_ids
            if prompt is not None:
                found.append(prompt.tolist())
    return [found[index % len(found)] for index in range(count)]


if __name__ == "__main__":
    sys.exit(main())
