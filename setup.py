"""Packaging of hf_universal_pretrain. The versions that are tested stand in constraints.txt."""

import re
from pathlib import Path

from setuptools import find_packages, setup


HERE = Path(__file__).parent
VERSION = re.search(r'__version__ = "(.+?)"', (HERE / "hf_universal_pretrain" / "__init__.py").read_text()).group(1)
TEST = ["pytest", "pytest-timeout", "hypothesis"]

setup(
    name="hf_universal_pretrain",
    version=VERSION,
    description="Universal pretraining for the Hugging Face ecosystem: pretrain a language model before any real text",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    packages=[*find_packages(include=["hf_universal_pretrain*"]), "hf_universal_pretrain.configs"],
    package_dir={"hf_universal_pretrain.configs": "recipes/configs"},  # they travel in the wheel
    package_data={
        "hf_universal_pretrain": ["runs/templates/*", "py.typed"],
        "hf_universal_pretrain.configs": ["*.yaml"],
    },
    python_requires=">=3.11",
    install_requires=[
        "torch>=2.8",
        "transformers>=5.20",
        "accelerate>=1.10",
        "datasets>=4.0",
        "huggingface-hub>=2.4",
        "safetensors",
        "numpy",
        "pyyaml",
        "jinja2",
        "pyarrow",
        "tqdm",
        "psutil",
        "matplotlib",
    ],
    entry_points={"console_scripts": ["hf-up = hf_universal_pretrain.cli:main"]},
    extras_require={
        "test": TEST,
        "dev": [*TEST, "ruff", "import-linter"],
        "bench": ["x-transformers"],
        "lm-eval": ["lm_eval[hf]>=0.4.13"],
    },  # fmt: skip
)
