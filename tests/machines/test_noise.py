import torch

from hf_universal_pretrain.machines import FAMILIES


def test_uniform_is_uniform_and_constants_differ() -> None:
    generator = torch.Generator().manual_seed(0)
    zeros = torch.zeros(400, 100, dtype=torch.int64)
    uniform = FAMILIES["uniform"](alphabet_size=16).draw(400, generator).generate(zeros[:, :1], zeros, generator)
    counts = torch.bincount(uniform.flatten(), minlength=16).double()
    assert ((counts - 2500) ** 2 / 2500).sum() < 38  # chi-square, 15 degrees of freedom: P(> 38) < .001
    constant = FAMILIES["constant"](alphabet_size=16).draw(400, generator).generate(zeros[:, :1], zeros, generator)
    assert (constant == constant[:, :1]).all()
    assert (torch.bincount(constant[:, 0], minlength=16) > 8).all()
