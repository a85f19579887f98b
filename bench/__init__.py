"""Benchmarks.  ``pytest bench --benchmark-enable`` times ours; ``python -m bench.llama2c RUN``
times llama2.c's program beside it.  docs/performance.md says how to read the figures."""
