"""`python -m learner --config RUN/config/resolved.json --index 0 [--sft]`: one rank."""

import os
import sys
import traceback
from typing import NoReturn

from async_r1.role import FAILED, Role, run_role


def main() -> NoReturn:
    argv = sys.argv[1:]
    sft = "--sft" in argv
    code = FAILED
    try:
        rest = [arg for arg in argv if arg != "--sft"]
        code = run_role("learner", lambda role: _run(role, sft), rest)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else FAILED
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    # Not through the interpreter's exit: threads of a process group can hold it up after a failure,
    # and now and then abort it (exit by SIGABRT) after all went well.
    os._exit(code)


def _run(role: Role, sft: bool) -> None:
    role.status("starting", "importing torch and DeepSpeed")
    import torch

    torch.set_num_threads(max(1, role.resolved.threads.get(role.name, 1)))
    torch.manual_seed(role.config.seed)
    from learner.quiet import quiet_libraries

    quiet_libraries()
    if sft:
        from learner.sft import run
    else:
        from learner.loop import run
    run(role)


if __name__ == "__main__":
    main()
