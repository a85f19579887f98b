"""Where things are."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
REAL_MODELS = ROOT.parent / "shared" / "models"  #: real ones, where they are at hand
