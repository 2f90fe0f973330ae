"""Run a command and say what it took.

    python tests/bench/launch.py LOG COMMAND …

It is a process of its own, and a small one: Linux counts the memory of whoever starts a process as that process's own
peak. What the command says goes to the file LOG; a line of JSON with its exit code, seconds by the clock and of
processors, and peak memory in bytes (of the largest process, if there are several) goes to standard output.
"""

import json
import os
import resource
import sys
import time


def main(log: str, *command: str) -> None:
    """Run it."""
    said = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    outputs = [(os.POSIX_SPAWN_DUP2, said, 1), (os.POSIX_SPAWN_DUP2, said, 2)]
    started = time.perf_counter()
    process = os.posix_spawn(command[0], command, os.environ, file_actions=outputs)
    _, status = os.waitpid(process, 0)
    wall = time.perf_counter() - started
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    unit = 1 if sys.platform == "darwin" else 1024
    figures = {"wall": wall, "cpu": used.ru_utime + used.ru_stime, "memory": used.ru_maxrss * unit}
    print(json.dumps({"code": os.waitstatus_to_exitcode(status)} | figures))


if __name__ == "__main__":
    main(*sys.argv[1:])
