"""What a task must be for a run to start: prompts that can be told apart, in both splits."""

from async_r1.errors import AsyncR1Error, TaskError
from async_r1.tasks.lazy import LazyPrompts
from async_r1.tasks.options import one_line
from async_r1.tasks.protocol import Prompt, Split, Task

_MAX_LAZY = 100  # prompts looked at in each split, where each has to be made or read


def check_task(task: Task, *, evals: bool = True) -> None:
    """Refuse a task that a run could not use; reads its prompts.

    Args:
        evals: whether the run evaluates (`eval.every` > 0).

    Raises:
        TaskError: one line; a split is empty, holds what is no prompt or an id twice, or shares a
            prompt with the other, or an id cannot be found again.
    """
    train = _check_split(task, "train")
    if not evals:
        return
    held_out = _check_split(task, "eval")
    if shared := train & held_out:
        raise TaskError(f"task {task.name}: prompt {min(shared)} is in the train and eval splits")


def _check_split(task: Task, split: Split) -> set[str]:
    use = "trains" if split == "train" else "is held out"
    try:
        prompts = task.prompts(split)
        if not len(prompts):
            raise TaskError(
                f"task {task.name} has no prompt that {use}: an empty task; see task.levels and "
                f"task.num_{split}{'; eval.every=0 needs none' if split == 'eval' else ''}"
            )
        found: set[str] = set()
        lazy = isinstance(prompts, LazyPrompts)  # has its ids checked, or makes them unlike
        for position in range(min(len(prompts), _MAX_LAZY) if lazy else len(prompts)):
            found.add(_check_prompt(task, prompts[position], split, position, found))
        _check_get(task, prompts[0])
    except AsyncR1Error:
        raise
    except Exception as error:  # of the user's own code
        raise TaskError(f"task {task.name} cannot list its prompts: {one_line(error)}") from error
    return found


def _check_prompt(task: Task, prompt: Prompt, split: str, position: int, found: set[str]) -> str:
    where = f"task {task.name}: {split} prompt {position}"
    if not isinstance(prompt, Prompt):
        raise TaskError(f"{where} must be a Prompt, got {type(prompt).__name__}")
    texts = {"prompt_id": prompt.prompt_id, "text": prompt.text, "answer": prompt.answer}
    for name, value in texts.items():
        if not isinstance(value, str) or (not value.strip() and name != "answer"):
            raise TaskError(f"{where}: {name} must be text, got {value!r}")
    if not isinstance(prompt.level, int):
        raise TaskError(f"{where}: level must be an integer, got {prompt.level!r}")
    if prompt.prompt_id in found:
        raise TaskError(f"{where}: its id {prompt.prompt_id} is that of an earlier one")
    return prompt.prompt_id


def _check_get(task: Task, prompt: Prompt) -> None:
    if task.get(prompt.prompt_id) != prompt:
        raise TaskError(f"task {task.name}: get({prompt.prompt_id!r}) gives another prompt")
