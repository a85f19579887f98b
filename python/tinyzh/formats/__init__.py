"""Models in the files of others, and the way back: Hugging Face folders, GGUF, PyTorch.

Every format is read into the same words (``weights.py``: a :class:`Config` and arrays named as in
llama2.c's file) and written from them, so that each needs to know only itself:

- ``found``         what a path holds, ready to become a Model; ``open_path`` tells formats apart
- ``huggingface``   folders: config.json, safetensors, tokenizer; ``huggingface_writer``
- ``safetensors``   one file of tensors
- ``pytorch``       pytorch_model.bin, by PyTorch
- ``gguf``          llama.cpp's files; ``gguf_writer``
- ``pieces``        tokenizers from one kind of file into another
- ``conversion``    from any of them to any other; ``verification`` whether it kept its promise
- ``header``        values of a header, checked as they are taken
"""

from .found import Found, open_path

__all__ = ["Found", "open_path"]
