"""Universal pretraining for the Hugging Face ecosystem: pretrain a language model before any real text."""

from hf_universal_pretrain.stream.config import SyntheticUPConfig
from hf_universal_pretrain.stream.dataset import SyntheticUPDataset
from hf_universal_pretrain.training.callbacks import BufferEnrichmentCallback
from hf_universal_pretrain.training.config import UPConfig
from hf_universal_pretrain.training.trainer import UPTrainer


__version__ = "0.2.0.dev0"

__all__ = ["BufferEnrichmentCallback", "SyntheticUPConfig", "SyntheticUPDataset", "UPConfig", "UPTrainer"]
