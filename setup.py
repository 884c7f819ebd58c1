"""What pyproject.toml, which holds all else, cannot say: folders of plain files are packages too, and travel along."""

from setuptools import find_packages, setup


FILES = ["configs", "configs.lm_eval", "runs.templates"]

setup(packages=find_packages(include=["hf_universal_pretrain*"]) + [f"hf_universal_pretrain.{name}" for name in FILES])
