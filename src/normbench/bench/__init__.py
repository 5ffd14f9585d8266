"""Throughput on this machine: stacks against lone runs and a plain loop, the roofline, where time goes.

    grid.py         what is measured: models at batch sizes, with their data
    throughput.py   the rounds, and the ratios taken within them
    processes.py    processes that train in step, as many as a sweep has
    plain.py        the plain loop, with the network of plain_network.py
    roofline.py     arithmetic and memory traffic of a step, and the machine's peaks
    phases.py       what the time of a step is spent on

A file of results is JSON, schema 1:

    device, kind     name of the processor or GPU; cpu | cuda
    processes        that train at the same time: one per core on a CPU, each of one thread
    torch, precision, commit, date, command
    rounds, seconds  turns of each contestant, and how long all of its turns take together
    peaks            flops_per_s of a matrix product, bytes_per_s of a copy beyond the caches,
                     cache_bytes_per_s of one within; of all processes together
    cells            a list, an entry for each model, batch and lanes:
      model, norm, data, batch, workers, lanes
      run_steps_per_s    spread by contestant: the stack, and those of `ratio`; of all processes together
      ratio              spread by contestant: the stack's run-steps per second over those of lone, runs
                         alone; plain, the plain loop; tuned, on a GPU, the plain loop with bf16 autocast,
                         channels_last and torch.compile with CUDA graphs. A contestant is absent where it
                         could not be measured; the notes say why
      per_run_step       flops, bytes, bytes_with_activations of a step of one run, see roofline.py
      share              what the stack reaches of flops_per_s and bytes_per_s, by the same names; more
                         than 1 where traffic stays in a cache
      step_s             seconds of a step of the stack in one process, beside the others
      phases_s           seconds of it by phase, see phases.py; they add up to step_s
    banks            a list: model … lanes as above, banks, and ratio, the spread of the time that a step of
                     one training with that many banks of statistics takes over that of one with one
    notes            what was left out or is not as asked

A spread is {"median", "min", "max", "rounds": [a number for each round]}.
"""
