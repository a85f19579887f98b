"""How fast a GPU tells stories, beside its limits and its neighbours: ``python -m bench.gpu``."""
