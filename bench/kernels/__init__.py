"""The kernels by themselves: ``python -m bench.kernels``."""
