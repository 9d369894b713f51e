"""Options of what is asked and how answers are judged: task, rewards, evaluation, curation."""

from dataclasses import dataclass
from typing import Any, Literal

from async_r1.schema import opt


@dataclass(frozen=True, kw_only=True)
class TaskConfig:
    """Prompts, their held-out split and the form in which they are asked."""

    name: str = opt("arithmetic", doc="a task by name, or one of your own: path/file.py:Class")
    levels: list[int] = opt([], doc="difficulty levels that train; empty: all of the task")
    eval_levels: list[int] = opt([], doc="levels of the held-out split; empty: task.levels")
    num_train: int = opt(20000, ge=0, doc="prompts that train, at most; 0: all the task has")
    num_eval: int = opt(128, ge=1, doc="held-out prompts, at most")
    seed: int = opt(0, ge=0, doc="seed of the prompt set, apart from the run's seed")
    labels: str = opt("", doc="file of async_r1 curate: its difficulty labels become the levels")
    template: Literal["r1_zero", "plain", "chat"] = opt(
        "plain", doc="prompt template; chat: the tokenizer's own"
    )
    system_prompt: str = opt("", doc="system message of template=chat")
    template_options: dict[str, Any] = opt(
        {}, doc="arguments of the chat template, such as enable_thinking"
    )
    max_new_tokens: int = opt(256, ge=1, doc="longest completion [tokens]")
    options: dict[str, Any] = opt({}, doc="options of the task itself")


@dataclass(frozen=True, kw_only=True)
class RewardConfig:
    """Terms of the reward and their weights; the total is their weighted sum."""

    accuracy: float = opt(1.0, ge=0, doc="weight of the right answer (R1 2.2.2)")
    format: float = opt(0.1, ge=0, doc="weight of the think/answer format (R1 2.2.2)")
    function: str = opt(
        "", doc="path/file.py:name, a function of your own in place of the task's answer check"
    )
    function_options: dict[str, Any] = opt({}, doc="keyword arguments of reward.function")
    language: float = opt(0.0, ge=0, doc="weight of language consistency (R1 2.3.2)")
    target_language: str = opt("en", doc="language of the chain of thought, ISO 639-1")
    length: float = opt(0.0, ge=0, doc="weight of the group's length reward (Kimi k1.5 2.3.3)")
    length_warmup_versions: int = opt(0, ge=0, doc="versions before the length reward counts")
    overlong: float = opt(0.0, ge=0, doc="weight of the soft overlong punishment (DAPO 3.4)")
    overlong_cache: int = opt(0, ge=0, doc="tokens over which it grows to -1; 0: a fifth")
    repetition: float = opt(0.0, ge=0, doc="weight of the n-gram repetition penalty")
    repetition_ngram: int = opt(3, ge=1, doc="words of an n-gram")
    shuffle: bool = opt(False, doc="permute rewards inside a group: control, must not learn")
    timeout_s: float = opt(10.0, gt=0, doc="time for one score before its process is killed")
    workers: int = opt(1, ge=1, doc="scoring processes per actor, where scoring needs them")


@dataclass(frozen=True, kw_only=True)
class EvalConfig:
    """Held-out accuracy, measured by the actors while training goes on."""

    every: int = opt(10, ge=0, doc="versions between evals; 0: never")
    temperature: float = opt(0.0, ge=0, doc="0 is greedy")
    prefix: str = opt("", doc="text put after the prompt (to make a style)")
    timeout_s: float = opt(300.0, gt=0, doc="deadline of one eval")


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """`async_r1 eval`."""

    samples: int = opt(8, ge=0, doc="samples per prompt for pass@k; 0: greedy only")
    k: list[int] = opt([1, 4, 8], doc="the k of pass@k, each <= samples")
    temperature: float = opt(0.6, gt=0, doc="of the samples; R1 reports use 0.6")
    greedy: bool = opt(True, doc="also one greedy completion per prompt")
    confidence: float = opt(0.95, gt=0, lt=1, doc="of the intervals")
    reflection_words: list[str] = opt(
        ["wait", "mistake", "however", "but", "retry", "error", "verify", "wrong", "evaluate",
         "check"],
        doc="words that show reflection (R1-Zero's list, Nature 2025)",
    )  # fmt: skip
    out: str = opt("", doc="directory of the results; empty: below run.dir")


@dataclass(frozen=True, kw_only=True)
class CurateConfig:
    """`async_r1 curate` (Kimi k1.5, section 2.1)."""

    samples: int = opt(10, ge=1, doc="completions whose pass rate is the difficulty")
    temperature: float = opt(1.0, gt=0, doc="of the samples")
    guesses: int = opt(8, ge=0, doc="tries at the answer without reasoning; 0: do not try")
    guess_prefix: str = opt(
        "",
        doc="text put after the prompt that leaves no room to reason; empty: an empty thought, "
        "and the opening of what task.options.answer_from names",
    )
    guess_tokens: int = opt(32, ge=1, doc="longest guess [tokens]")
    num_levels: int = opt(5, ge=1, doc="difficulty labels, 1 (easy) to this")
    split: Literal["train", "eval"] = opt("train", doc="prompts to label")
    out: str = opt("", doc="file of the labels; empty: labels.jsonl in the run directory")
