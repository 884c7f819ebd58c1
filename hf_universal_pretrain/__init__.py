"""Universal pretraining for the Hugging Face ecosystem: pretrain a language model before any real text."""

from hf_universal_pretrain.callbacks import BufferEnrichmentCallback
from hf_universal_pretrain.config import SyntheticUPConfig, UPConfig
from hf_universal_pretrain.dataset import SyntheticUPDataset
from hf_universal_pretrain.trainer import UPTrainer


__version__ = "0.1.0"

__all__ = ["BufferEnrichmentCallback", "SyntheticUPConfig", "SyntheticUPDataset", "UPConfig", "UPTrainer"]
