"""The machine families by name."""

from collections.abc import Callable
from functools import partial

from hf_universal_pretrain.machines.base import MachineFamily, Machines
from hf_universal_pretrain.machines.complexity import Band
from hf_universal_pretrain.machines.context_tree import ContextTreeFamily
from hf_universal_pretrain.machines.copies import CopyFamily
from hf_universal_pretrain.machines.language import LanguageFamily
from hf_universal_pretrain.machines.markov import MarkovFamily
from hf_universal_pretrain.machines.noise import NoiseFamily
from hf_universal_pretrain.machines.own import is_own, load_family, own_family
from hf_universal_pretrain.machines.recurrent import RecurrentFamily
from hf_universal_pretrain.machines.rewrite import RewriteFamily
from hf_universal_pretrain.machines.two_clocks import TwoClocksFamily
from hf_universal_pretrain.machines.zoo.automata import ElementaryAutomatonFamily, NeuralAutomatonFamily
from hf_universal_pretrain.machines.zoo.dyck import DyckFamily
from hf_universal_pretrain.machines.zoo.hmm import HiddenMarkovFamily
from hf_universal_pretrain.machines.zoo.lime import LimeFamily
from hf_universal_pretrain.machines.zoo.one_matrix import RandomNetworkFamily
from hf_universal_pretrain.machines.zoo.pcfg import GrammarFamily
from hf_universal_pretrain.machines.zoo.procedural import ProceduralFamily
from hf_universal_pretrain.machines.zoo.program import ProgramFamily
from hf_universal_pretrain.machines.zoo.repeat import RepeatFamily
from hf_universal_pretrain.machines.zoo.state_automata import StateAutomatonFamily
from hf_universal_pretrain.machines.zoo.transformer import RandomTransformerFamily


FAMILIES: dict[str, Callable[..., MachineFamily]] = {
    "lstm": partial(RecurrentFamily, cell="lstm"),
    "gru": partial(RecurrentFamily, cell="gru"),
    "rnn": RandomNetworkFamily,
    # pbloem/up, the echo-state source: 16 connections of variance .21 are a radius of 1.8 (it has 1,024 units)
    "reservoir": partial(
        RandomNetworkFamily, units=256, connections=16, radius_range=(0.5, 2.0), linear_share=0.0,
        sharpness_range=(0.0, 0.0),
    ),
    "transformer": RandomTransformerFamily,
    "markov": MarkovFamily,
    "hmm": HiddenMarkovFamily,
    "context_tree": ContextTreeFamily,
    "two_clocks": TwoClocksFamily,
    "language": LanguageFamily,
    "copies": CopyFamily,
    "rewrite": RewriteFamily,
    "repeat": RepeatFamily,
    "nca": NeuralAutomatonFamily,
    "eca": ElementaryAutomatonFamily,
    "ca": StateAutomatonFamily,
    "dyck": DyckFamily,
    "shuffle_dyck": partial(DyckFamily, shuffled=True, depth_range=(4, 16)),
    "pcfg": GrammarFamily,
    "procedural": ProceduralFamily,
    "lime": LimeFamily,
    "program": ProgramFamily,
    "uniform": partial(NoiseFamily, kind="uniform"),
    "constant": partial(NoiseFamily, kind="constant"),
}  # fmt: skip


def family_maker(name: str) -> Callable[..., MachineFamily]:
    """What makes the family of a name: one of `FAMILIES`, or a class from a file that was loaded (see `own`)."""
    return own_family(name) if is_own(name) else FAMILIES[name]


__all__ = ["FAMILIES", "Band", "MachineFamily", "Machines", "family_maker", "is_own", "load_family"]
