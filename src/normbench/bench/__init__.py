"""Throughput on this machine: stacks, lone runs and a plain loop, the roofline, and the time of each phase.

    grid.py         what is measured: models at batch sizes, with their data
    throughput.py   the rounds, and the ratios within each round
    processes.py    processes that train at the same time, as many as a sweep has
    plain.py        the plain loop; plain_network.py builds its network
    roofline.py     arithmetic and memory traffic of a step, and the machine's peaks
    phases.py       what the time of a step is spent on

A file of results is JSON, schema 1:

    device, kind     name of the processor or GPU; "cpu" or "cuda"
    processes        that train at the same time: on a CPU one per core, with one thread each
    torch, precision, commit, date, command
    rounds, seconds  turns of each contestant; seconds of all its turns together
    peaks            of all processes together: flops_per_s of a matrix product, bytes_per_s of a copy larger
                     than the caches, cache_bytes_per_s of a copy that fits into a cache
    cells            a list with one entry per model, batch and number of lanes:
      model, norm, data, batch, workers, lanes
      run_steps_per_s    of all processes together, a spread per contestant: the stack and those of `ratio`
      ratio              run-steps per second of the stack, divided by those of another contestant, as a
                         spread: "lone", a run alone; "plain", the plain loop; "tuned", on a GPU, the plain
                         loop with bf16 autocast, channels_last and torch.compile with CUDA graphs.
                         A contestant that could not be measured is absent; the notes say why
      per_run_step       flops, bytes and bytes_with_activations of one step of one run, see roofline.py
      share              share of the peaks that the stack reaches, by the same names: flops of flops_per_s,
                         both kinds of bytes of bytes_per_s. It exceeds 1 if traffic stays in a cache
      step_s             seconds of a step of the stack in one process, while the others train too
      host_s             seconds until the call of a step returns. If it is much less than step_s, the GPU
                         sets the time of a step; else the host does
      layout, exceptions the measured layout of the stack: memory format, and the algorithm of those
                         convolutions that are not computed in the usual way; absent if nothing was measured
      phases_s           seconds of that step by phase, see phases.py; their sum is step_s
    banks            a list with one entry per model and batch: model … lanes as above, banks, and ratio:
                     the time of a step of one training with that many banks of statistics, divided by
                     the time with one bank, as a spread
    notes            what was left out, and what differs from what was asked

A spread is {"median", "min", "max", "rounds": [one number per round]}.
"""
