"""tinyzh beside its neighbours, on the 93M shape, in one run: ``python -m bench.neighbours``.

Every engine and type of weights has a process of its own, which waits while another one is timed;
rounds go through all of them in turn, and medians are compared.  An engine is one file with

    DTYPES            the types of weights that it can be measured with
    Engine(dtype, threads, cache)
        .decode(streams, tokens) -> seconds     greedy, `tokens` steps of so many sequences
        .prefill(ids) -> seconds                one prompt, no token but the first
"""
