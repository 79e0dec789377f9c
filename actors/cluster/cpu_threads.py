"""How actors share a machine's cores."""

import os


def cpu_thread_variables(share: int, threads: int | None = None) -> dict[str, str]:
    """Environment of a process on a CPU machine that gets `threads`; None: the machine's cores
    divided among the `share` processes that compute at the same time.

    Ray would give an actor that reserves no core a single thread. Threads that wait for work spin
    for a few microseconds: asleep, they would wake too late for a small model's next operation,
    which makes a step up to twice as slow; and threads that spin for long make it ten times slower
    as soon as anything else wants a core. Where there are more threads than cores they never spin.
    """
    cores = os.cpu_count() or 1
    threads = threads or max(1, cores // share)
    wait = (
        {"GOMP_SPINCOUNT": "10000"} if threads * share <= cores else {"OMP_WAIT_POLICY": "PASSIVE"}
    )
    return {"OMP_NUM_THREADS": str(threads), **wait}
