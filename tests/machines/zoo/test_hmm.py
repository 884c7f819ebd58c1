import math

import torch

from hf_universal_pretrain.machines.zoo.hmm import HiddenMarkovFamily, HiddenMarkovModels


def plain_log_likelihood(model: HiddenMarkovModels, index: int, row: list[int]) -> float:
    """The forward algorithm, one symbol at a time."""
    states = int(model.states[index])
    outcome = {int(symbol): k for k, symbol in enumerate(model.symbols[index])}
    belief = [1 / states] * states + [0.0] * (model.transition.shape[1] - states)
    total = 0.0
    for symbol in row:
        joint = [b * float(model.emission[index, s, outcome[symbol]]) for s, b in enumerate(belief)]
        evidence = sum(joint)
        total += math.log(evidence)
        belief = [
            sum(part / evidence * float(model.transition[index, s, z]) for s, part in enumerate(joint))
            for z in range(len(joint))
        ]
    return total


def test_rows_are_likely_under_their_own_model_only() -> None:
    """The forward likelihood of each row: highest under the model that wrote it, among models of the same symbols."""
    generator = torch.Generator().manual_seed(0)
    family = HiddenMarkovFamily(
        alphabet_size=5, states_range=(3, 3), symbols_range=(5, 5), emission_concentration_range=(0.5, 0.5)
    )
    models = family.draw(6, generator)
    zeros = torch.zeros(6, 120, dtype=torch.int64)
    rows = models.generate(zeros[:, :1], zeros, generator).tolist()
    for i, row in enumerate(rows):
        scores = [plain_log_likelihood(models, j, row) for j in range(6)]
        assert max(range(6), key=scores.__getitem__) == i


def test_a_cycle_of_states_shows_its_cycle() -> None:
    """Three states in a fixed cycle, two of which show the same symbol: the row is the cycle, from whatever state."""
    cycle = torch.eye(3, dtype=torch.float64).roll(1, dims=1)
    shows = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
    models = HiddenMarkovModels(cycle[None], shows[None], torch.tensor([3]), torch.tensor([[8, 3]]))
    zeros = torch.zeros(1, 10, dtype=torch.int64)
    row = models.generate(zeros[:, :1], zeros, torch.Generator().manual_seed(0))[0].tolist()
    assert "".join(map(str, row)) in "883883883883"
