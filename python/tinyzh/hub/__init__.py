"""Models from the Hugging Face hub, by ``pip install 'tinyzh[hub]'`` (docs/hub.md).

>>> from tinyzh import hub
>>> path = hub.pull("flyingfishinwater/tinystories_zh")  # in the cache from then on
>>> model = tinyzh.Model(path)
"""

from .choice import Picked, choose
from .download import Pulled, fetch, pull, split_name

__all__ = ["Picked", "Pulled", "choose", "fetch", "pull", "split_name"]
