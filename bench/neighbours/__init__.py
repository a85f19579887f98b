"""tinyzh beside its neighbours, on the 93M shape, in one run: ``python -m bench.neighbours``.

Every engine and type of weights has a process of its own, which is stopped while another one is
timed; rounds go through all of them in turn, and medians are compared.  Threads wait as each engine
wants them to: none is told to sleep at its barriers, which would slow it down.

An engine is one file with

    PACKAGE           what pip calls it
    DTYPES            the types of weights that it can be measured with
    Engine(dtype, threads, cache)
        .generate(prompts, tokens) -> seconds   greedy, so many tokens after each of the prompts,
                                                all of them at once; NotImplementedError: cannot
        .start            Python code, or a command that prints a line, that has a first token
"""
